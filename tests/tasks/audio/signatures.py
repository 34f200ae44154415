"""What a store does with a signed address, written from its vendor's description of it, and nothing of ours."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

SECRET = "very secret+/="


def s3_takes(path: str, host: str, now: datetime | None = None) -> bool:
    """AWS Signature Version 4, in the query."""
    path, query = _parts(path)
    signature = query.pop("X-Amz-Signature", "")
    date, region, service, end = query["X-Amz-Credential"].split("/")[1:]
    request = f"GET\n{path}\n{_sorted(query)}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    told = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], f"{date}/{region}/{service}/{end}", _hash(request)])
    key = _key("AWS4" + SECRET, date, region, service, end)
    return _same(key, told, signature) and _in_time(query["X-Amz-Date"], query["X-Amz-Expires"], now)


def oss_takes(path: str, bucket: str, now: datetime | None = None) -> bool:
    """OSS signature version 4, in the query. The bucket is signed, and not the host."""
    path, query = _parts(path)
    signature = query.pop("x-oss-signature", "")
    date, region, product, end = query["x-oss-credential"].split("/")[1:]
    resource = path if path.startswith(f"/{bucket}/") else f"/{bucket}{path}"
    request = f"GET\n{resource}\n{_sorted(query)}\n\n\nUNSIGNED-PAYLOAD"
    told = "\n".join(["OSS4-HMAC-SHA256", query["x-oss-date"], f"{date}/{region}/{product}/{end}", _hash(request)])
    key = _key("aliyun_v4" + SECRET, date, region, product, end)
    return _same(key, told, signature) and _in_time(query["x-oss-date"], query["x-oss-expires"], now)


def _parts(path: str) -> tuple[str, dict[str, str]]:
    path, _, query = path.partition("?")
    return path, dict(parse_qsl(query, keep_blank_values=True))


def _sorted(query: dict[str, str]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(first: str, *rest: str) -> bytes:
    key = first.encode()
    for part in rest:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _same(key: bytes, told: str, signature: str) -> bool:
    return hmac.compare_digest(hmac.new(key, told.encode(), hashlib.sha256).hexdigest(), signature)


def _in_time(signed: str, seconds: str, now: datetime | None) -> bool:
    begun = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (now or datetime.now(UTC)) <= begun + timedelta(seconds=int(seconds))
