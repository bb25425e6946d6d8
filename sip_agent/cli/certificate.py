"""When a certificate expires, read from its PEM."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime


def certificate_expiry(pem: str) -> datetime:
    """Return when the first certificate in `pem` expires (RFC 5280 §4.1.2.5)."""
    start = pem.index(ssl.PEM_HEADER)
    end = pem.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
    certificate = next(_der_items(ssl.PEM_cert_to_DER_cert(pem[start:end])))[1]
    fields = list(_der_items(next(_der_items(certificate))[1]))
    # The version is optional and has a tag of its own; serial number, algorithm and issuer come next.
    validity = fields[4 if fields[0][0] == 0xA0 else 3][1]
    tag, text = list(_der_items(validity))[1]
    format_ = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode(), format_).replace(tzinfo=UTC)


def _der_items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each item in DER (ITU-T X.690 §8.1)."""
    offset = 0
    while offset < len(data):
        tag, length, offset = data[offset], data[offset + 1], offset + 2
        if length & 0x80:
            size = length & 0x7F
            length, offset = int.from_bytes(data[offset : offset + size]), offset + size
        yield tag, data[offset : offset + length]
        offset += length
