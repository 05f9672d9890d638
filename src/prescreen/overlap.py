"""A handler that runs while the moderator judges (`Rule(timing="overlap")`), on ASGI.

What keeps this from being a leak: no byte of the answer leaves before the verdict, clients of
`prescreen.openai` wait for it before they call a model, and a rejection cancels the handler.
"""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class

from prescreen.current import Passage
from prescreen.drive import Perform, drive
from prescreen.model import Decision
from prescreen.steps import Answer, Flow, Moderate, Step

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Overlap:
    """One such request: the screening in one task, and as soon as the moderator is asked, the handler in another."""

    def __init__(self, passage: Passage, send: Send) -> None:
        self._passage, self._send = passage, send
        self._may_start = Event()
        self._handling = CancelScope()
        self._error: BaseException | None = None
        self._has_decided = False
        self._decision: Decision | None = None

    async def run(
        self,
        flow: Flow[Decision],
        perform: Perform,
        app: Callable[[Send], Awaitable[None]],
        reject: Callable[[Decision], Awaitable[None]],
    ) -> None:
        """Until both are through. Raises what the app raises, unless it is rejected, and ClientGone."""

        def watched(step: Step) -> Answer | Awaitable[Answer]:
            if isinstance(step, Moderate):
                self._may_start.set()  # whatever could refuse the request unjudged has had its say
            return perform(step)

        async with create_task_group() as group:
            group.start_soon(self._judge, flow, watched, reject)
            await self._may_start.wait()
            if self._may_go_on():
                await self._handle(app)
        if self._error is not None:
            raise self._error

    async def _judge(
        self,
        flow: Flow[Decision],
        perform: Perform,
        reject: Callable[[Decision], Awaitable[None]],
    ) -> None:
        decision = None
        try:
            decision = await drive(flow, perform)
        except Exception as error:  # noqa: BLE001  # out of the task group as itself, once the handler has ended
            self._error = error
        finally:
            self._has_decided, self._decision = True, decision
            if not self._may_go_on():
                self._handling.cancel()  # first, so that a handler that waits for the decision goes no step further
            self._passage.settle(decision)
            self._may_start.set()
        if decision is not None and decision.is_rejected:
            try:
                await reject(decision)
            except Exception as error:  # noqa: BLE001  # as above
                self._error = error

    async def _handle(self, app: Callable[[Send], Awaitable[None]]) -> None:
        with self._handling:
            try:
                await app(self._send_later)
            except (Exception, CancelledError) as error:
                if _is_cancelled(error):
                    raise
                await self._passage.wait()
                if self._may_go_on():  # nobody wants to hear of it after a rejection
                    self._error = error

    async def _send_later(self, event: MutableMapping[str, Any]) -> None:
        """The app's `send`. After a rejection nobody listens, even if the handler could not be cancelled."""
        await self._passage.wait()
        if self._may_go_on():
            await self._send(event)

    def _may_go_on(self) -> bool:
        """Whether the handler may start, or go on: unless our own decision rejects, or will never be there."""
        has_passed = self._decision is not None and not self._decision.is_rejected
        return has_passed or not self._has_decided


def _is_cancelled(error: BaseException) -> bool:
    """Whether it is this task that is being cancelled: on asyncio an app may also raise what a task that it waited for raised."""
    task = current_task() if isinstance(error, get_cancelled_exc_class()) else None
    return task is not None and task.cancelling() > 0
