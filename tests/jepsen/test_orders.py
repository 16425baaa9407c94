"""Programs that take orders: every order has its own answer."""

from __future__ import annotations

import asyncio
import sys

import pytest

from jepsen_like.orders import OrderFailed, Program

#: Answers each order with its number, some only after a while; ends when told to.
ANSWERS = """
import json, sys, time
for line in sys.stdin:
    order = json.loads(line)
    if order["do"] == "end":
        break
    time.sleep(order.get("seconds", 0))
    answer = {"error": "cannot"} if order["do"] == "fail" else {"number": order["number"]}
    print(json.dumps(answer), flush=True)
"""


async def program() -> Program:
    return await Program.start("it", [sys.executable, "-c", ANSWERS])


async def test_an_order_that_nobody_waited_for_leaves_no_answer_to_the_next() -> None:
    it = await program()
    assert await it.order("tell", number=1) == {"number": 1}
    for number in (2, 3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await it.order("tell", number=number, seconds=0.2)
    assert await it.order("tell", number=4) == {"number": 4}
    await it.close()


async def test_a_failure_is_the_answer_of_its_own_order() -> None:
    it = await program()
    with pytest.raises(OrderFailed, match="it: cannot"):
        await it.order("fail")
    assert await it.order("tell", number=2) == {"number": 2}
    with pytest.raises(OrderFailed, match="has ended"):
        await it.order("end")
    await it.close()
