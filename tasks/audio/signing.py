"""From an object in a store to an address that our own HTTP can fetch."""

from tasks.audio.reference import AudioReference
from tasks.errors import BadInput, Unavailable
from worker.objects import NoCredentials, NotInstalled, ObjectStores, Unsigned

__all__ = ["signed"]

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION in the worker's environment, or a profile",
    "oss": "OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and STENOPOOL_OSS_REGION",
}


def signed(reference: AudioReference, stores: ObjectStores) -> AudioReference:
    """Where an `s3:` or `oss:` recording is to be had for the next while.

    Raises `BadInput` `unsupported_scheme`, `missing_credentials`, `unsigned_address`; `Unavailable`.
    """
    scheme, shown = reference.scheme, reference.shown
    try:
        return AudioReference.parse(stores.signed(scheme, reference.bucket, reference.key))
    except NotInstalled:
        cure = f"install stenopool[{scheme}] where the worker runs"
        raise BadInput("unsupported_scheme", f"Audio from {scheme}: is not supported by this worker; {cure}.") from None
    except NoCredentials:
        raise BadInput("missing_credentials", f"{shown} needs credentials; set {_CREDENTIALS[scheme]}.") from None
    except Unsigned as error:
        if error.passes:
            why = f"The worker did not get its credentials for {scheme}: ({error.kind}); try again."
            raise Unavailable("credentials_unavailable", why) from None
        cure = "check the bucket's name and the worker's environment"
        raise BadInput("unsigned_address", f"No address can be signed for {shown} ({error.kind}); {cure}.") from None
