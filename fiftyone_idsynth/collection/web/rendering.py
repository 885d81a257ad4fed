"""Pages that show nothing without JavaScript, opened by a headless Chromium."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import IdsynthError, MissingExtraError
from .answer import Answer, FetchError

if TYPE_CHECKING:
    from ..sources.base import Http

T = TypeVar("T")

FLAGS = (
    "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
    # Chromium itself reaches no host: every request is answered by the HTTP client, or not at all.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)  # fmt: skip
_NEVER_LOADED = {"image", "media", "font", "texttrack", "websocket", "eventsource", "ping", "manifest"}
_OWN_HEADERS = ("user-agent", "accept-encoding", "cookie", "host", "connection", "content-length", "sec-", "if-")
_BODY_HEADERS = {"content-encoding", "content-length", "transfer-encoding", "set-cookie"}


class Browser:
    """Opens pages as a browser does and answers with what their scripts made of them.

    It stands in for the HTTP client: a source works with it unchanged. Chromium has no network of its own. The page
    and everything that it asks for come from ``http``, so its address checks, robots.txt, deadlines and rates hold for
    every request; what it refuses, and whatever is not a GET, fails inside the page. Images, media and fonts are not
    loaded. Each page is opened without cookies and without anything kept from another.

    Chromium starts with the first page. Several threads may open pages at the same time.

    Args:
        http: what requests are made with
        user_agent: what scripts see as the user agent; that of ``http``
        settle (10.0): seconds to wait at most until a page is quiet; then it is taken as it is
        total (60.0): seconds for rendering a page, whatever it does
    """

    def __init__(self, http: Http, user_agent: str, *, settle: float = 10.0, total: float = 60.0):
        self.http = http
        self.user_agent = user_agent
        self.settle = settle
        self.total = total
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._requests: ThreadPoolExecutor | None = None
        self._playwright: Any = None
        self._chromium: Any = None

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        robots: bool = False,
        redirects: bool = True,
    ) -> Answer:
        """Opens a page and returns its HTML after its scripts have run.

        What is no HTML, and an answer with another status than 200, is returned as the server sent it.

        Args:
            url: the address
            params (None): its query
            headers (None): further headers, for the page itself
            robots (False): whether robots.txt decides what may be opened
            redirects (True): whether redirects of the page are followed

        Raises:
            FetchError: there was no answer, or the page was not ready in time
            MissingExtraError: Playwright is not installed
            IdsynthError: there is no Chromium, or it does not start
        """
        loop = self._started()
        first = self.http.get(url, params=params, headers=headers, robots=robots, redirects=redirects)
        if first.status != 200 or "html" not in first.headers.get("content-type", "").lower():
            return first
        return self._wait(loop, self._render(first, robots))

    def post(self, url: str, form: Mapping[str, str]) -> Answer:
        """Sends a form through the HTTP client; nothing is rendered."""
        return self.http.post(url, form)

    def close(self) -> None:
        """Ends Chromium, and the pages that are being opened; the next page would start it again."""
        with self._lock:
            if self._loop is None or self._thread is None or self._requests is None:
                return
            self._requests.shutdown(wait=False, cancel_futures=True)
            self._wait(self._loop, self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = self._requests = None

    def _started(self) -> asyncio.AbstractEventLoop:
        """The event loop that Playwright lives in, on a thread of its own, with Chromium running."""
        with self._lock:
            if self._loop is None:
                try:
                    import playwright.async_api  # noqa: F401
                except ImportError as error:
                    why = "opening pages that need JavaScript"
                    raise MissingExtraError("playwright", extra="browser", why=why) from error
                self._requests = ThreadPoolExecutor(8, thread_name_prefix="browser-request")
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="browser", daemon=True)
                self._thread.start()
            loop = self._loop
            self._wait(loop, self._start())
        return loop

    @staticmethod
    def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except CancelledError:
            raise FetchError("browser", "the browser was closed") from None
        except BaseException:
            future.cancel()
            raise

    async def _start(self) -> None:
        if self._chromium is not None and self._chromium.is_connected():
            return
        from playwright.async_api import Error, async_playwright

        await self._stop()
        self._playwright = await async_playwright().start()
        path = chromium_path()
        flags = [*FLAGS, "--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else list(FLAGS)
        try:
            self._chromium = await self._playwright.chromium.launch(executable_path=path, args=flags, headless=True)
        except Error as error:
            await self._stop()
            if path is None:
                raise IdsynthError(
                    "no Chromium is found, which opens pages that need JavaScript: install the system's package "
                    "'chromium' (on Debian: apt-get install chromium), or run: playwright install chromium"
                ) from error
            raise IdsynthError(f"{path} does not start: {error.message.splitlines()[0]}") from error

    async def _stop(self) -> None:
        from playwright.async_api import Error

        with suppress(Error, TimeoutError):  # it may be gone already
            if self._chromium is not None:
                await asyncio.wait_for(self._chromium.close(), 10)
        if self._playwright is not None:
            await self._playwright.stop()
        self._chromium = self._playwright = None

    async def _end(self) -> None:
        await self._stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _render(self, first: Answer, robots: bool) -> Answer:
        from playwright.async_api import Error

        context = None
        try:
            async with asyncio.timeout(self.total):
                context = await self._chromium.new_context(
                    user_agent=self.user_agent, service_workers="block", accept_downloads=False
                )
                return await self._opened(context, first, robots)
        except TimeoutError:
            raise FetchError("timeout", f"{first.url[:200]} was not rendered after {self.total:g} s") from None
        except Error as error:
            raise FetchError(
                "browser", f"{first.url[:200]} cannot be rendered: {error.message.splitlines()[0]}"
            ) from error
        finally:
            if context is not None:
                with suppress(Error, TimeoutError):
                    await asyncio.wait_for(context.close(), 10)

    async def _opened(self, context: Any, first: Answer, robots: bool) -> Answer:
        from playwright.async_api import TimeoutError as Unsettled

        page = await context.new_page()
        waiting = [first]
        refused: list[FetchError] = []

        async def serve(route: Any) -> None:
            request = route.request
            if request.resource_type in _NEVER_LOADED or request.method != "GET":
                await route.abort("blockedbyclient")
            elif waiting and request.is_navigation_request():
                await _fulfill(route, waiting.pop())
            else:
                try:
                    answer = await self._ask(request, robots)
                except FetchError as error:
                    if request.is_navigation_request() and request.frame == page.main_frame:
                        refused.append(error)  # the page itself has gone there
                    await route.abort("blockedbyclient")
                else:
                    await _fulfill(route, answer)

        await context.route("**/*", lambda route: route.abort("blockedbyclient"))  # of pages that this one opens
        await context.route_web_socket("**/*", lambda socket: socket.close())
        await page.route("**/*", serve)
        with suppress(Unsettled):  # what is there by then is the page
            await page.goto(first.url, wait_until="networkidle", timeout=1000 * self.settle)
        if refused:
            raise refused[0]
        body = (await page.content()).encode()
        headers = {**first.headers, "content-type": "text/html; charset=utf-8"}
        return Answer(page.url, first.status, headers, body, first.robots)

    async def _ask(self, request: Any, robots: bool) -> Answer:
        """Makes a request of a page through the HTTP client."""
        headers = {k: v for k, v in request.headers.items() if not k.lower().startswith(_OWN_HEADERS)}
        return await asyncio.get_running_loop().run_in_executor(
            self._requests, lambda: self.http.get(request.url, headers=headers, robots=robots)
        )


async def _fulfill(route: Any, answer: Answer) -> None:
    headers = {name: value for name, value in answer.headers.items() if name not in _BODY_HEADERS}
    await route.fulfill(status=answer.status, headers=headers, body=answer.body)


def chromium_path() -> str | None:
    """The Chromium on the PATH, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for path in map(shutil.which, names) if path), None)
