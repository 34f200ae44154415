"""What the service allows an account, shared by all workers, without a coordinator: state only in Redis."""

from worker.quota.gate import Gate
from worker.quota.ledger import Allowance, Ledger, Wish
from worker.quota.mailbox import Mailbox
from worker.quota.quota import NoQuota, Quota, QuotaUnknown, Slot

__all__ = ["Allowance", "Gate", "Ledger", "Mailbox", "NoQuota", "Quota", "QuotaUnknown", "Slot", "Wish"]
