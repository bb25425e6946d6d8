"""`python -m sip_agent` is `sip-agent`."""

from sip_agent.cli import main

if __name__ == "__main__":
    main()
