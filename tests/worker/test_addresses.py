import ipaddress

import pytest

from worker.addresses import ForbiddenAddress, Guard, is_metadata, is_public

PRIVATE = """
127.0.0.1 127.8.8.8 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 0.0.0.0 0.1.2.3 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 ::1 :: fc00::1 fd12::1 ff02::1
fec0::1 2001:db8::1 2001::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 2002:7f00:1:: 2002:a00:1::1 64:ff9b::7f00:1
64:ff9b::a00:1 64:ff9b:1::a00:1 64:ff9b:1::808:808 64:ff9b:1:808:8:800:: ::7f00:1 100::1 4000::1
fd00:ec3::23 fd00:42::43 64:ff9b:2::a9fe:a9fe
""".split()
METADATA = """
169.254.169.254 169.254.170.2 fe80::1 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd20:ce::254
fd00:ec2::23 fd00:42::42 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1
64:ff9b:1::a9fe:a9fe 64:ff9b:1:2:3:4:a9fe:a9fe 64:ff9b:1::6464:64c8 64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:a9fe:a9:fe00:0:1
64:ff9b:1:a9:fe:a9fe:: 64:ff9b:1:0:a9:fea9:fe00:0
""".split()
PUBLIC = "8.8.8.8 1.1.1.1 93.184.216.34 2606:4700:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1".split()


@pytest.mark.parametrize("text", PRIVATE)
def test_an_address_off_the_open_internet_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text)) and not is_metadata(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", METADATA)
def test_a_metadata_address_is_known_in_every_disguise(text: str) -> None:
    assert is_metadata(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_on_the_open_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text)) and not is_metadata(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", METADATA)
@pytest.mark.parametrize("allow_private", [False, True])
def test_no_setting_lets_a_metadata_address_through(text: str, allow_private: bool) -> None:
    guard = Guard(allow_private, lambda *_, **__: [(0, 0, 0, "", (text, 80))])
    with pytest.raises(ForbiddenAddress) as caught:
        guard.addresses("host", 80)
    assert (caught.value.allowable, guard.refused) == (False, 1)
