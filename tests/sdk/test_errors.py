"""What goes wrong comes out of each SDK as the SDK's own exception, with the message of whoever made the error."""

import pytest
from sdks import SDKS, sdk


def raised(endpoint, status, key="its own", streaming=False):
    expected = SDKS[endpoint.vendor].errors[status]
    with pytest.raises(expected) as caught:
        client = sdk(endpoint, key)
        if streaming:
            with client.texts() as texts:
                list(texts)
        else:
            client.ask()
    # The class itself, not one that happens to be below it.
    assert type(caught.value) is expected
    said = SDKS[endpoint.vendor].read(caught.value)
    assert said.status == status
    return said


@pytest.mark.parametrize("streaming", [False, True], ids=["basic", "streaming"])
def test_without_a_key(provider, vendors, streaming):
    said = raised(provider, 401, key=None, streaming=streaming)
    assert "key" in said.text.lower()
    assert vendors.seen(provider.vendor) == []


@pytest.mark.parametrize("streaming", [False, True], ids=["basic", "streaming"])
def test_with_a_wrong_key(provider, vendors, streaming):
    wrong = provider.key[:-1] + ("x" if provider.key[-1] != "x" else "y")
    said = raised(provider, 401, key=wrong, streaming=streaming)
    assert "key" in said.text.lower()
    assert wrong not in said.text
    assert vendors.seen(provider.vendor) == []


def test_with_a_revoked_key(provider, product, vendors):
    made = product.rest("POST", "/api-keys", {"name": f"short-{provider.vendor}", "endpoints": [provider.name]})
    product.settle()
    assert sdk(provider, made["key"]).ask() == provider.text
    vendors.seen(provider.vendor)
    product.rest("POST", f"/api-keys/{made['id']}/revoke")
    product.settle()
    revoked = raised(provider, 401, key=made["key"])
    unknown = raised(provider, 401, key=provider.key[:-1] + ("x" if provider.key[-1] != "x" else "y"))
    assert vendors.seen(provider.vendor) == []
    # Nobody learns from the answer that the key once was one.
    assert without_request_id(revoked.text) == without_request_id(unknown.text)


def without_request_id(text):
    return " ".join(word for word in text.split() if "req_" not in word)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
@pytest.mark.parametrize("streaming", [False, True], ids=["basic", "streaming"])
def test_the_vendors_own_errors(provider, vendors, status, streaming):
    message = f"so said the vendor, with {status}"
    headers = {"retry_after": "7"} if status == 429 else {}
    vendors.fail(provider.vendor, status, message, **headers)
    said = raised(provider, status, streaming=streaming)
    assert message in said.text
    if status == 429:
        assert said.headers["retry-after"] == "7"
    assert len(vendors.seen(provider.vendor)) == 1


def test_a_refused_credential_is_not_the_callers_fault(provider, vendors):
    vendors.refuse_credential(provider.vendor)
    said = raised(provider, 502)
    assert "vendor who said so" not in said.text
    assert len(vendors.seen(provider.vendor)) == 1
