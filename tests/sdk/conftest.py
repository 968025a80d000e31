"""Starts the product and the scripted vendors once, and makes a provider and a proxy for each vendor."""

import os
import tempfile
from pathlib import Path

import pytest
from product import Endpoint, Product, Vendors

VENDORS = ["openai", "anthropic", "gemini", "mistral", "azure-openai"]
KINDS = ["provider", "proxy"]


def pytest_report_header():
    return f"environment: {os.environ.get('LOCKGATE_SDK_ENVIRONMENT')}"


@pytest.fixture(scope="session")
def vendors():
    vendors = Vendors()
    yield vendors
    vendors.stop()


@pytest.fixture(scope="session")
def product():
    with tempfile.TemporaryDirectory(prefix="lockgate-sdk.") as folder:
        product = Product(Path(folder))
        yield product
        product.stop()


@pytest.fixture(scope="session")
def endpoints(product, vendors):
    """Both kinds of endpoint for each vendor, on the scripted vendors, opened by one key."""
    made = {}
    names = []
    for vendor, facts in vendors.table.items():
        names += [f"scripted-{vendor}", f"app-{vendor}"]
        upstream = {"url": facts["url"], "credential": {"value": facts["credential"]}}
        provider = {"name": names[-2], "template": vendor, "context": f"/scripted/{vendor}", "upstream": upstream}
        product.rest("POST", "/llm-providers", provider)
        product.deploy(names[-2])
        product.rest("POST", "/llm-proxies", {"name": names[-1], "context": f"/app/{vendor}", "provider": names[-2]})
        product.deploy(names[-1])
    key = product.rest("POST", "/api-keys", {"name": "sdk-tests", "endpoints": names})["key"]
    product.settle()
    for vendor, facts in vendors.table.items():
        for kind, noun, name in [
            ("provider", "llm-providers", f"scripted-{vendor}"),
            ("proxy", "llm-proxies", f"app-{vendor}"),
        ]:
            read = product.rest("GET", f"/{noun}/{name}")
            (invoke,) = read["invokeUrls"]
            made[vendor, kind] = Endpoint(vendor, kind, name, invoke["url"], key, facts["model"], facts["text"])
    return made


@pytest.fixture(params=[(vendor, kind) for vendor in VENDORS for kind in KINDS], ids="-".join)
def endpoint(request, endpoints):
    return endpoints[request.param]


@pytest.fixture(params=VENDORS)
def provider(request, endpoints):
    """One endpoint per vendor, where the kind makes no difference."""
    return endpoints[request.param, "provider"]


@pytest.fixture
def sample(product, request):
    """What `lockgate dev` offers of itself; `request.param` is (vendor, kind)."""
    vendor, kind = request.param
    offer = product.ready["sample"]
    facts = offer["providers" if kind == "provider" else "proxies"][vendor]
    return Endpoint(vendor, kind, "sample", facts["invokeUrl"], offer["key"], facts["model"], None)


@pytest.fixture(autouse=True)
def nothing_leaks(request):
    """After every test: no gateway key has reached a vendor, and each got the credential that was stored for it."""
    yield
    if "vendors" in request.fixturenames:
        vendors = request.getfixturevalue("vendors")
        for vendor in VENDORS:
            vendors.as_usual(vendor)
            vendors.seen(vendor)
        assert vendors.breaches() == []
