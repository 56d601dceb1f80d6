// What makes the pages smoother. Every page reads and works without it: links, forms, a reload.
//
//   Live regions      [data-live="topic ..."] is loaded again after a change of one of its topics (GET /api/v1/events)
//   Lost collector    a bar says since when nothing was heard, and figures turn grey
//   Ages and times    [data-age] counts on; <time datetime> is shown in the viewer's zone
//   Keyboard          `?` lists the keys
//   Copy, Back        [data-copy] gets a button; a filter form shows what the address says
"use strict";

(() => {
  const EVENTS = "/api/v1/events";
  const SILENCE_MS = 25_000; // Two and a half heartbeats (collector/api/events.py).
  const RETRY_MS = [1_000, 2_000, 5_000, 10_000];
  const POLL_MS = 10_000; // Where there is no room for a stream.
  // Between two loads of a region. Calls and reports of sensors come all the time, and each load asks the store.
  const PAUSE_MS = 2_000;
  const BUSY_TOPICS = new Set(["calls", "endpoints", "sensors"]);
  const BUSY_PAUSE_MS = 10_000;
  const LOAD_SHARE = 10; // A page that took 0.5 s to load is loaded every 5 s at most.

  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const isSeen = () => document.visibilityState === "visible";
  const listRegions = () => [...document.querySelectorAll("[data-live]")].filter((one) => one.id);
  const isField = (one) => one instanceof Element && one.matches("input, textarea, select, [contenteditable]");

  // Ages and times

  const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"]];
  const ZONED = { dateStyle: "medium", timeStyle: "medium" };
  let zone = "";

  function wordAge(seconds) {
    if (seconds < 10) return "now";
    for (const [unit, suffix] of UNITS) if (seconds >= unit) return `${Math.round(seconds / unit)} ${suffix} ago`;
    return `${Math.round(seconds)} s ago`;
  }

  // As "30 Nov 2026, 12:03:10 CET": the zone is always named.
  function wordTime(date) {
    zone ||= new Intl.DateTimeFormat(undefined, { timeZoneName: "short" })
      .formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
    return `${new Intl.DateTimeFormat(undefined, ZONED).format(date)} ${zone}`.trim();
  }

  function wordClock(ms) {
    return new Date(ms).toLocaleTimeString("en-GB");
  }

  // What the server wrote, with the moment from which it counts on.
  function adopt(root) {
    const now = Date.now();
    for (const one of root.querySelectorAll("[data-age]")) {
      if (one.dataset.since) continue;
      one.dataset.since = String(now - 1_000 * Number(one.dataset.age));
      one.title = wordTime(new Date(Number(one.dataset.since)));
    }
    for (const one of root.querySelectorAll("time[datetime]")) {
      const date = new Date(one.dateTime);
      if (!Number.isNaN(date.valueOf())) one.textContent = wordTime(date);
    }
    for (const one of root.querySelectorAll("[data-copy]")) addCopyButton(one);
    markScrollers();
  }

  // What scrolls sideways takes the focus, so that arrow keys move it.
  function markScrollers() {
    for (const one of document.querySelectorAll("main .scroll, main section, main figure")) {
      const isScrolling = one.scrollWidth > one.clientWidth && getComputedStyle(one).overflowX !== "visible";
      if (isScrolling && !one.hasAttribute("tabindex")) {
        one.tabIndex = 0;
        one.dataset.scrolls = "";
        if (one.matches("div") && !one.hasAttribute("role")) {
          one.setAttribute("role", "group");
          one.setAttribute("aria-label", one.querySelector("caption")?.textContent.trim() || "Table");
        }
      } else if (!isScrolling && "scrolls" in one.dataset) {
        one.removeAttribute("tabindex");
        delete one.dataset.scrolls;
      }
    }
  }

  function countAges() {
    const now = Date.now();
    for (const one of document.querySelectorAll("[data-since]")) {
      const text = wordAge((now - Number(one.dataset.since)) / 1_000);
      if (one.textContent !== text) one.textContent = text;
    }
  }

  // Copy buttons

  function addCopyButton(one) {
    if (one.nextElementSibling?.matches(".copy")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy quiet";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${one.textContent.trim().slice(0, 60)}`);
    button.addEventListener("click", async () => {
      await copyText(one);
      button.textContent = "Copied";
      await wait(2_000);
      button.textContent = "Copy";
    });
    one.after(button);
  }

  // Browsers have a clipboard only over TLS and on loopback; elsewhere the text is selected for the person to copy.
  async function copyText(one) {
    if (navigator.clipboard) return navigator.clipboard.writeText(one.textContent.trim());
    return getSelection().selectAllChildren(one);
  }

  // Forms: what was typed is in the address, so Back and Forward show it again

  function restoreForms() {
    const query = new URLSearchParams(location.search);
    for (const form of document.querySelectorAll("main form[method=get]")) {
      // form.action is a field where one has that name.
      if (new URL(form.getAttribute("action") ?? "", location.href).pathname !== location.pathname) continue;
      for (const field of form.elements) {
        if (!field.name || field === document.activeElement || !query.has(field.name)) continue;
        if (field.type === "checkbox" || field.type === "radio") {
          field.checked = query.getAll(field.name).includes(field.value);
        } else if (field.multiple) {
          for (const option of field.options) option.selected = query.getAll(field.name).includes(option.value);
        } else {
          field.value = query.get(field.name);
        }
      }
    }
  }

  function isDirty(field) {
    if (field.type === "hidden") return false;
    if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
    if (field.options) {
      const options = [...field.options];
      const first = field.multiple || options.some((one) => one.defaultSelected) ? -1 : 0;
      return options.some((one, index) => one.selected !== (one.defaultSelected || index === first));
    }
    return "defaultValue" in field && field.value !== field.defaultValue;
  }

  // Live regions

  // Somebody works in it: types, has selected text, or has opened a dialog.
  function isBusy(region) {
    const selection = getSelection();
    const isSelecting = selection !== null && !selection.isCollapsed && selection.containsNode(region, true);
    if (isSelecting || (region.contains(document.activeElement) && isField(document.activeElement))) return true;
    if (region.querySelector("dialog[open], :popover-open") !== null) return true;
    return [...region.querySelectorAll("input, textarea, select")].some(isDirty);
  }

  function nameDetails(region) {
    return [...region.querySelectorAll("details")].map((one, index) => [one.id || `number ${index}`, one]);
  }

  // The same element in the old and the new content: by its id, else by where it leads and what it says.
  function nameFocus(one) {
    const words = one.getAttribute("aria-label") ?? one.textContent.trim();
    return one.id || `${one.tagName} ${one.getAttribute("href") ?? ""} ${words}`;
  }

  // Puts the new content in place of the old; what is open stays open, and what had the focus keeps it.
  function swap(region, fresh) {
    const focused = region.contains(document.activeElement) ? nameFocus(document.activeElement) : "";
    const isOpen = new Map(nameDetails(region).map(([name, one]) => [name, one.open]));
    const scrolled = [...region.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const at = scrollY;
    region.replaceWith(fresh);
    for (const [name, one] of nameDetails(fresh)) if (isOpen.has(name)) one.open = isOpen.get(name);
    fresh.querySelectorAll(".scroll").forEach((one, index) => { one.scrollLeft = scrolled[index] ?? 0; });
    if (focused) {
      const same = [...fresh.querySelectorAll("a[href], button, summary, [tabindex]")].find((one) => nameFocus(one) === focused);
      same?.focus({ preventScroll: true });
    }
    if (scrollY !== at) scrollTo({ top: at, behavior: "instant" });
    adopt(fresh);
    window.htmx?.process(fresh);
  }

  const due = new Set(); // Ids of regions with news.
  let loadedAt = performance.now();
  let loadMs = 0;
  let isLoading = false;

  function note(topics) {
    for (const region of listRegions()) {
      const own = region.dataset.live.split(/\s+/).filter((one) => topics === null || topics.includes(one));
      if (own.length) {
        due.add(region.id);
        region.dataset.due = "";
      }
      isUrgent ||= own.some((one) => topics === null || !BUSY_TOPICS.has(one));
    }
  }

  let isUrgent = false;

  async function loadDue() {
    const pause = Math.max(isUrgent ? PAUSE_MS : BUSY_PAUSE_MS, LOAD_SHARE * loadMs);
    if (!due.size || isLoading || !isSeen() || performance.now() - loadedAt < pause) return;
    const regions = listRegions().filter((one) => due.has(one.id) && !isBusy(one));
    if (!regions.length) return;
    isLoading = true;
    const asked = location.href;
    const started = performance.now();
    try {
      const response = await fetch(asked, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(30_000) });
      hear();
      if (isSignIn(response)) return;
      if (response.ok && asked === location.href) {
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const { id } of regions) {
          const region = document.getElementById(id);
          const fresh = page.getElementById(id);
          if (region === null || fresh === null || isBusy(region)) continue;
          swap(region, document.adoptNode(fresh));
          due.delete(id);
        }
        document.title = page.title;
        isUrgent = false;
      }
    } catch {
      lose();
    } finally {
      loadMs = performance.now() - started;
      loadedAt = performance.now();
      isLoading = false;
    }
  }

  // The session is over: to the sign-in and back here, unless something was typed.
  function isSignIn(response) {
    const isOver = response.status === 401 || (response.redirected && new URL(response.url).pathname === "/login");
    if (!isOver) return false;
    const login = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    if ([...document.querySelectorAll("main input, main textarea, main select")].some(isDirty)) {
      showBar("Your session is over. ", login, "Sign in again");
    } else {
      location.assign(login);
    }
    return true;
  }

  // The bar

  let heardAt = Date.now();
  let isLost = false;

  function hear() {
    heardAt = Date.now();
    if (!isLost) return;
    isLost = false;
    document.documentElement.classList.remove("stale");
    hideBar();
    note(null);
  }

  function lose() {
    if (isLost || !isSeen()) return;
    isLost = true;
    document.documentElement.classList.add("stale");
    showBar(`The collector has not answered since ${wordClock(heardAt)}. What is shown is of then.`);
  }

  function showBar(text, link, title) {
    const bar = document.getElementById("connection");
    bar.textContent = text;
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = link;
      anchor.textContent = title;
      bar.append(anchor);
    }
    bar.classList.add("shown");
  }

  function hideBar() {
    const bar = document.getElementById("connection");
    bar.textContent = "";
    bar.classList.remove("shown");
  }

  // The stream: only while the tab is seen, for a browser has few connections for all its tabs

  let abort = null;

  async function follow() {
    for (let tries = 0; ; ) {
      if (!isSeen() || !listRegions().length) return;
      abort = new AbortController();
      const { signal } = abort;
      const silence = setInterval(() => { if (Date.now() - heardAt > SILENCE_MS) abort.abort("silent"); }, 1_000);
      let pause = RETRY_MS[Math.min(tries, RETRY_MS.length - 1)];
      try {
        const response = await fetch(EVENTS, { headers: { Accept: "text/event-stream" }, signal });
        if (isSignIn(response)) return;
        hear();
        if (response.ok) {
          if (tries) note(null);
          tries = 0;
          pause = RETRY_MS[0];
          await readEvents(response.body.pipeThrough(new TextDecoderStream()).getReader());
        } else {
          note(null); // No room for a stream: load now and then.
          pause = POLL_MS;
        }
      } catch {
        if (!isSeen()) return;
        if (tries) lose(); // One try more before the bar, for a proxy may end a stream.
      } finally {
        clearInterval(silence);
        document.documentElement.classList.remove("following");
      }
      tries += 1;
      await wait(pause);
    }
  }

  async function readEvents(reader) {
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      hear();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.find((line) => line.startsWith("data: "));
        document.documentElement.classList.add("following");
        if (lines[0] === "event: change" && data) note(JSON.parse(data.slice(6)).topics);
      }
    }
  }

  let following = null;

  function start() {
    following ??= follow().finally(() => { following = null; });
  }

  // Keyboard

  let isGoing = false; // `g` was pressed, and a letter is to follow.

  function listRows() {
    return [...document.querySelectorAll("main table tbody tr, main [data-row]")]
      .map((row) => row.querySelector("a[href], button, summary")).filter((one) => one?.checkVisibility());
  }

  function move(step) {
    const rows = listRows();
    const at = rows.findIndex((one) => one.closest("tr, [data-row]").contains(document.activeElement));
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  const KEYS = [
    ["/", "Search", () => (document.querySelector("main [type=search]") ?? document.getElementById("find"))?.focus()],
    ["j", "Next row", () => move(1)],
    ["k", "Previous row", () => move(-1)],
    ["Enter", "Open the row", null],
    ["?", "This list", () => showKeys()],
  ];

  const listPages = () => [...document.querySelectorAll("#navigation a[data-key]")];

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isField(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]") !== null) return;
    if (isGoing) {
      isGoing = false;
      const page = listPages().find((one) => one.dataset.key === event.key);
      if (page) {
        event.preventDefault();
        page.click();
      }
      return;
    }
    if (event.key === "g") {
      isGoing = true;
      setTimeout(() => { isGoing = false; }, 1_500);
      return;
    }
    const action = KEYS.find(([key]) => key === event.key)?.[2];
    if (action) {
      event.preventDefault();
      action();
    }
  }

  function showKeys() {
    let dialog = document.getElementById("keys");
    if (dialog === null) {
      dialog = document.createElement("dialog");
      dialog.id = "keys";
      dialog.setAttribute("aria-labelledby", "keys-title");
      const title = Object.assign(document.createElement("h2"), { id: "keys-title", textContent: "Keys" });
      const list = document.createElement("dl");
      const pages = listPages().map((one) => [`g ${one.dataset.key}`, one.textContent.trim()]);
      for (const [key, meaning] of [...KEYS, ...pages]) {
        const row = document.createElement("div");
        const name = document.createElement("dt");
        name.append(Object.assign(document.createElement("kbd"), { textContent: key }));
        row.append(name, Object.assign(document.createElement("dd"), { textContent: meaning }));
        list.append(row);
      }
      const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
      close.addEventListener("click", () => dialog.close());
      dialog.append(title, list, close);
      document.body.append(dialog);
    }
    dialog.showModal();
  }

  // Start

  adopt(document);
  restoreForms();
  start();
  setInterval(countAges, 1_000);
  setInterval(loadDue, 500);
  addEventListener("resize", markScrollers);
  addEventListener("pageshow", restoreForms);
  addEventListener("popstate", restoreForms);
  document.addEventListener("keydown", onKey);
  document.addEventListener("htmx:afterSwap", (event) => adopt(event.target));
  document.addEventListener("visibilitychange", () => {
    if (isSeen()) {
      heardAt = Date.now();
      note(null);
      start();
    } else {
      abort?.abort("hidden");
    }
  });
  const help = document.getElementById("help");
  if (help !== null) {
    help.hidden = false;
    help.addEventListener("click", showKeys);
  }
})();
