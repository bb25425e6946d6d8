"""Pack the compiled engine into a wheel, with nothing but the standard library.

Usage: make_wheel.py VERSION MODULE.py EXTENSION.so FOLDER. Prints the path of the wheel.
"""

import base64
import hashlib
import sys
import sysconfig
import zipfile
from pathlib import Path

METADATA = """\
Metadata-Version: 2.1
Name: pjsua2
Version: {version}
Summary: PJSIP's pjsua2 bindings with the native classes of sip-agent, as the module pjsua2_native
License: GPL-2.0-or-later
Requires-Python: >=3.11
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: sip-agent
Root-Is-Purelib: false
Tag: {tag}
"""
# Zip archives know no earlier date; a fixed one keeps equal inputs equal.
DATE = (1980, 1, 1, 0, 0, 0)


def wheel_tag() -> str:
    """Return the tag of the running interpreter, e.g. cp311-cp311-linux_x86_64."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{python}-{python}{getattr(sys, 'abiflags', '')}-{platform}"


def record_line(name: str, content: bytes) -> str:
    """Return the file's line in RECORD (PEP 376)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def main(version: str, module: str, extension: str, folder: str) -> None:
    """Write the wheel."""
    tag = wheel_tag()
    info = f"pjsua2-{version}.dist-info"
    files = {
        "pjsua2_native.py": Path(module).read_bytes(),
        Path(extension).name: Path(extension).read_bytes(),
        f"{info}/METADATA": METADATA.format(version=version).encode(),
        f"{info}/WHEEL": WHEEL.format(tag=tag).encode(),
    }
    record = "".join(record_line(name, content) for name, content in files.items()) + f"{info}/RECORD,,\n"
    path = Path(folder) / f"pjsua2-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in [*files.items(), (f"{info}/RECORD", record.encode())]:
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            wheel.writestr(entry, content)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
