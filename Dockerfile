# The agent with the native engine. Build: make image, docker build -t sip-agent . or buildah bud -t sip-agent .
# BASE is a Debian 12, or another Debian whose packages have these names.
ARG BASE=debian:bookworm-slim

# What runs and what builds stand on the same system.
FROM ${BASE} AS runtime
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates python3 tzdata \
        libopus0 libspeexdsp1 libsrtp2-1 libssl3 libstdc++6 libuuid1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
# Any other user works too, as long as it may write to /data.
RUN groupadd --gid 10001 sip-agent \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin sip-agent \
    && install -d -o sip-agent -g sip-agent -m 750 /data

FROM runtime AS engine
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        g++ gcc make python3-dev swig xz-utils \
        libopus-dev libspeex-dev libspeexdsp-dev libsrtp2-dev libssl-dev uuid-dev \
    && rm -rf /var/cache/apt/*
COPY deploy/pjsua2 /build/pjsua2
RUN mkdir /wheels && cp "$(/build/pjsua2/build.sh --python /usr/bin/python3)" /wheels/

FROM runtime AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/cache/apt/* \
    && python3 -m venv /opt/sip-agent
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# The dependencies change less often than the code: they are a layer of their own. The light engine stays outside, and so
# do the extras but PostgreSQL: Pipecat and Whisper are large, and for those who build on this image.
RUN python3 -c 'import tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]; \
print(*(each for each in wanted if not each.startswith("pjsua2-python")), sep="\n")' >requirements.txt \
    && /opt/sip-agent/bin/pip install --quiet -c constraints.txt pip \
    && /opt/sip-agent/bin/pip install --quiet -c constraints.txt -r requirements.txt
COPY --from=engine /wheels /wheels
RUN /opt/sip-agent/bin/pip install --quiet --no-deps --no-index /wheels/*.whl
COPY LICENSE README.md ./
COPY media media
COPY sip_agent sip_agent
RUN /opt/sip-agent/bin/pip install --quiet --no-deps --build-constraint constraints.txt . \
    && /opt/sip-agent/bin/pip uninstall --quiet --yes setuptools

FROM runtime
# pip stays in: FROM sip-agent, USER root, RUN pip install your-handlers, USER sip-agent.
COPY --from=packages /opt/sip-agent /opt/sip-agent
ENV PATH=/opt/sip-agent/bin:$PATH PYTHONUNBUFFERED=1
# Records and recordings land here, and sip-agent.toml is read from here; SIP_AGENT_CONFIG names another settings file.
WORKDIR /data
VOLUME /data
USER sip-agent
# SIP and the API. The RTP ports (20000-29999/udp) are too many to list: run with host networking.
EXPOSE 5060/udp 5060/tcp 5061/tcp 8080/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["sip-agent", "ping"]
ENTRYPOINT ["sip-agent"]
CMD ["serve"]
