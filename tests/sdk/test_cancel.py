"""A client that stops reading stops the vendor."""

import time

from sdks import sdk


def test_a_client_that_leaves_in_mid_stream_cancels_at_the_vendor(endpoint, vendors):
    # Enough for a first piece of text: Anthropic opens with three events that carry none, Azure with one.
    events = {"anthropic": 4, "azure-openai": 2}.get(endpoint.vendor, 1)
    vendors.hold_after(endpoint.vendor, events)
    with sdk(endpoint).texts() as texts:
        assert next(iter(texts)) == "one"
        (open_request,) = vendors.seen(endpoint.vendor)
        assert open_request["end"] == "open"
        left_at = time.time()
    deadline = time.monotonic() + 5
    while True:
        (request,) = vendors.seen(endpoint.vendor)
        if request["end"] != "open":
            break
        assert time.monotonic() < deadline, "the vendor still works for nobody"
        time.sleep(0.005)
    assert request["end"] == "gone"
    assert request["gone_at"] - left_at < 0.1, "the vendor must know within 100 ms"
