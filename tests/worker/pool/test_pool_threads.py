"""What many threads do to one pool."""

PATIENCE = 10.0

# -- the lock ----------------------------------------------------------------------------------------------------------


def test_no_hook_is_called_while_the_lock_is_held(make_pool, hooks):
    pool, held = make_pool(), []

    def watched(hook):
        def call(*args):
            held.append(pool._changed._is_owned())
            return hook(*args)

        return call

    for name in ("open", "is_healthy", "is_reusable", "close"):
        setattr(hooks, name, watched(getattr(hooks, name)))
    pool.wait(PATIENCE)
    with pool.lease() as resource:
        resource.reusable = False
    pool.close(PATIENCE)
    assert len(held) >= 4
    assert not any(held)


def test_many_borrowers_share_few_resources_and_never_the_same(make_pool, hooks, in_thread):
    pool, busy, clashes, served = make_pool(min_size=0, max_size=3), set(), [], []

    def borrow(seed):
        for turn in range(30):
            with pool.lease() as resource:
                if resource in busy:
                    clashes.append(resource)
                busy.add(resource)
                resource.reusable = (seed + turn) % 7 > 0
                served.append(resource.number)
                busy.discard(resource)

    for thread in [in_thread(borrow, seed) for seed in range(12)]:
        thread.join(60)
    pool.close(PATIENCE)
    assert (clashes, len(served)) == ([], 360)
    assert all(resource.closed == 1 for resource in hooks.made)
    assert pool.stats()["size"] == 0
