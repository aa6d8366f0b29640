"""Turns are given in order, in waves, and never lost."""

from __future__ import annotations

import asyncio

from serving_compare.server.turnstile import LARGEST_WAVE, Turnstile


async def take_turn(turnstile: Turnstile, log: list[str], name: str) -> None:
    await turnstile.enter()
    log.append(name)
    turnstile.leave(computed=True)


async def run_crowd(turnstile: Turnstile, names: str, log: list[str]) -> None:
    await asyncio.gather(*(take_turn(turnstile, log, name) for name in names))


def test_turns_are_given_in_the_order_of_coming() -> None:
    log: list[str] = []
    asyncio.run(run_crowd(Turnstile(), "abcdefghij", log))
    assert log == list("abcdefghij")


def test_the_first_of_an_idle_server_does_not_wait_for_the_loop() -> None:
    async def scenario() -> list[str]:
        log: list[str] = []
        turn = take_turn(Turnstile(), log, "a")
        try:
            turn.send(None)
        except StopIteration:
            return log
        raise AssertionError("it waited")

    assert asyncio.run(scenario()) == ["a"]


def test_between_two_slow_requests_the_loop_goes_round() -> None:
    async def scenario() -> list[str]:
        turnstile = Turnstile()
        turnstile.request_s = 1.0
        log: list[str] = []
        loop = asyncio.get_running_loop()

        def beat() -> None:
            log.append(".")
            if log.count(".") < 50:
                loop.call_soon(beat)

        crowd = asyncio.create_task(run_crowd(turnstile, "abc", log))
        loop.call_soon(beat)
        turnstile.request_s = 1.0
        await crowd
        return log

    found = "".join(asyncio.run(scenario())).lstrip(".")
    assert [part for part in found.split(".") if part] == ["a", "b", "c"]


def test_quick_requests_go_several_in_a_wave() -> None:
    async def scenario() -> int:
        turnstile = Turnstile()
        await turnstile.enter()
        waiting = [asyncio.create_task(turnstile.enter()) for _ in range(20)]
        await asyncio.sleep(0)
        turnstile.request_s = 1e-6
        turnstile.leave(computed=False)
        await asyncio.sleep(0)
        let_in = sum(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return let_in

    assert asyncio.run(scenario()) == LARGEST_WAVE


def test_a_wave_of_fixed_size_ends_when_all_of_it_have_left() -> None:
    async def scenario() -> tuple[int, int, int]:
        turnstile = Turnstile(3)
        await turnstile.enter()
        tasks = [asyncio.create_task(turnstile.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        turnstile.leave(computed=True)
        await asyncio.sleep(0)
        first = sum(task.done() for task in tasks)
        turnstile.leave(computed=True)
        turnstile.leave(computed=True)
        await asyncio.sleep(0)
        before_the_last = sum(task.done() for task in tasks)
        turnstile.leave(computed=True)
        await asyncio.sleep(0)
        return first, before_the_last, sum(task.done() for task in tasks)

    assert asyncio.run(scenario()) == (3, 3, 5)


def test_predicted_wait_grows_with_the_queue_and_is_nothing_without() -> None:
    async def scenario() -> tuple[float, float]:
        turnstile = Turnstile()
        turnstile.request_s = 0.25
        before = turnstile.waiting * turnstile.request_s
        await turnstile.enter()
        tasks = [asyncio.create_task(turnstile.enter()) for _ in range(4)]
        await asyncio.sleep(0)
        found = turnstile.waiting * turnstile.request_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return before, found

    assert asyncio.run(scenario()) == (0.0, 1.0)


def test_whoever_goes_while_waiting_leaves_no_gap() -> None:
    async def scenario() -> tuple[list[str], int]:
        turnstile = Turnstile()
        log: list[str] = []
        await turnstile.enter()
        first, gone, last = (asyncio.create_task(take_turn(turnstile, log, name)) for name in "abc")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        waiting = turnstile.waiting
        turnstile.leave(computed=False)
        await asyncio.gather(first, last)
        return log, waiting

    assert asyncio.run(scenario()) == (["a", "c"], 2)


def test_whoever_goes_when_let_in_passes_the_turn_on() -> None:
    async def scenario() -> list[str]:
        turnstile = Turnstile()
        turnstile.request_s = 1.0
        log: list[str] = []
        await turnstile.enter()
        gone, last = (asyncio.create_task(take_turn(turnstile, log, name)) for name in "ab")
        await asyncio.sleep(0)
        turnstile.leave(computed=False)  # lets `gone` in
        gone.cancel()  # before it could run
        await asyncio.wait_for(last, 5)
        await asyncio.wait_for(turnstile.enter(), 5)
        return log

    assert asyncio.run(scenario()) == ["b"]


def test_the_time_of_a_request_is_that_of_its_share_of_the_wave() -> None:
    async def scenario() -> float:
        turnstile = Turnstile(2)
        await turnstile.enter()
        others = [asyncio.create_task(turnstile.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        turnstile.leave(computed=False)  # not remembered
        assert turnstile.request_s == 0
        await asyncio.gather(*others)
        turnstile._began_s -= 1.0
        turnstile.leave(computed=True)
        turnstile.leave(computed=True)
        return turnstile.request_s

    assert 0.5 <= asyncio.run(scenario()) < 0.9
