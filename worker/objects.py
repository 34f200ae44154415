"""Addresses of objects in S3 and OSS that are good for a while, without a word to the store.

The vendors' libraries find the credentials and sign; what was signed is then fetched like any other address. They are
extras, and made when they are first used: it takes a quarter of a second.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec

from config.storage import OssSettings

__all__ = ["LIBRARIES", "NoCredentials", "NotInstalled", "ObjectStores", "Unsigned", "is_installed"]

LIBRARIES = {"s3": "botocore", "oss": "alibabacloud_oss_v2"}
"""What each kind of store needs; the extra that brings it is named like the scheme."""

GOOD_FOR = 900
"""Seconds. Each request is signed anew, so that it has to last from here to the store, and survive its clock."""

PATIENCE = 5
"""Seconds for each answer of whoever hands out credentials, such as a cloud's metadata service."""

# They write what they sign, and with which key, at DEBUG.
for _name in LIBRARIES.values():
    logging.getLogger(_name).setLevel(logging.WARNING)

Sign = Callable[[str, str], str]
"""`(bucket, key) -> address`"""


class Unsigned(Exception):
    """Raised when the library cannot make an address of this bucket and key, or did not get its credentials.

    Holds the kind of its error only. `passes`: it may go better in a while.
    """

    def __init__(self, kind: str, passes: bool) -> None:
        super().__init__(kind, passes)
        self.kind = kind
        self.passes = passes


class NoCredentials(Exception):
    """Raised when there are none."""


class NotInstalled(Exception):
    """Raised when its library is not there."""


class ObjectStores:
    """One process's ways into object stores. Making it opens and imports nothing."""

    def __init__(self, oss: OssSettings | None = None) -> None:
        self._makers: dict[str, Callable[[], Sign]] = {"s3": _s3, "oss": lambda: _oss(oss or OssSettings())}
        self._signers: dict[str, Sign] = {}
        self._lock = threading.Lock()

    def signed(self, scheme: str, bucket: str, key: str) -> str:
        """An address that gives this object to whoever has it: never log or show it.

        Raises `NotInstalled`, `NoCredentials`, `Unsigned`.
        """
        try:
            return self._signer(scheme)(bucket, key)
        except NoCredentials:
            with self._lock:  # there may be some later: a metadata service can be away, too
                self._signers.pop(scheme, None)
            raise

    def _signer(self, scheme: str) -> Sign:
        # Made under the lock, as none of those who wait could go on without it.
        with self._lock:
            if scheme not in self._signers:
                self._signers[scheme] = self._makers[scheme]()
            return self._signers[scheme]


def is_installed(scheme: str) -> bool:
    """Whether this kind of store can be used; without importing its library."""
    return find_spec(LIBRARIES[scheme]) is not None


def _s3() -> Sign:
    try:
        from botocore import exceptions as its
        from botocore.config import Config
        from botocore.session import Session
    except ImportError:
        raise NotInstalled from None
    # Who hands out credentials was not reached, or declined.
    passing = (its.CredentialRetrievalError, its.MetadataRetrievalError, its.HTTPClientError, its.ClientError)
    try:
        session = Session()
        # Also for the services that hand out credentials.
        session.set_default_client_config(
            Config(connect_timeout=PATIENCE, read_timeout=PATIENCE, retries={"total_max_attempts": 2})
        )
        # Without a version, some regions' addresses are still signed in the old way, which others do not take.
        config = Config(signature_version="s3v4", response_checksum_validation="when_required")
        client = session.create_client("s3", config=config)
    except (its.BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
        raise Unsigned(type(error).__name__, isinstance(error, passing)) from None

    def sign(bucket: str, key: str) -> str:
        try:
            where = {"Bucket": bucket, "Key": key}
            url: str = client.generate_presigned_url("get_object", Params=where, ExpiresIn=GOOD_FOR)
        except its.NoCredentialsError:
            raise NoCredentials from None
        except (its.BotoCoreError, its.ClientError) as error:
            raise Unsigned(type(error).__name__, isinstance(error, passing)) from None
        return url

    return sign


def _oss(settings: OssSettings) -> Sign:
    try:
        from alibabacloud_oss_v2 import Client, Config, GetObjectRequest
        from alibabacloud_oss_v2.credentials import StaticCredentialsProvider
        from alibabacloud_oss_v2.exceptions import BaseError
    except ImportError:
        raise NotInstalled from None
    secret, token = settings.access_key_secret, settings.session_token
    if settings.access_key_id is None or secret is None or settings.region is None:
        raise NoCredentials
    credentials = StaticCredentialsProvider(
        settings.access_key_id, secret.get_secret_value(), token.get_secret_value() if token else None
    )
    client = Client(Config(region=settings.region, endpoint=settings.endpoint, credentials_provider=credentials))

    def sign(bucket: str, key: str) -> str:
        try:
            request = GetObjectRequest(bucket=bucket, key=key)
            url: str = client.presign(request, expires=timedelta(seconds=GOOD_FOR)).url
        except BaseError as error:
            raise Unsigned(type(error).__name__, False) from None
        return url

    return sign
