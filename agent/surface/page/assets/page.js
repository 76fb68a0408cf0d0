// Times in the reader's zone, copy buttons, and sections that follow what happens.
"use strict";
(() => {
  const exact = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "medium"});
  const scales = {
    day: new Intl.DateTimeFormat(undefined, {timeStyle: "short"}),
    month: new Intl.DateTimeFormat(undefined, {day: "numeric", month: "short"}),
  };
  const zoned = new Intl.DateTimeFormat(undefined, {dateStyle: "full", timeStyle: "long"});

  function localise(root) {
    for (const each of root.querySelectorAll("time[datetime]")) {
      const then = new Date(each.dateTime);
      if (Number.isNaN(then.getTime())) continue;
      each.textContent = (scales[each.dataset.scale] ?? exact).format(then);
      each.title = zoned.format(then);
    }
    for (const each of root.querySelectorAll("[data-at]")) {  // where there can be no element
      const then = new Date(each.dataset.at);
      if (!Number.isNaN(then.getTime())) each.textContent = each.dataset.before + exact.format(then);
    }
    for (const each of root.querySelectorAll("button[data-copy]")) {
      each.hidden = !navigator.clipboard;
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  localise(document);
  const source = document.body.dataset.events;
  if (!source) return;

  const AT_MOST_EVERY = 1000, AT_LEAST_EVERY = Number(document.body.dataset.every || 60) * 1000;
  const live = document.getElementById("live");
  const shown = new Map();
  let events = null, due = null, last = 0, busy = false, again = false;

  function raw(root) {
    return [...root.querySelectorAll("[data-live][id]")];
  }

  function replace(fresh) {
    let changed = false;
    for (const after of raw(fresh)) {
      const before = document.getElementById(after.id);
      const text = after.outerHTML;
      if (!before || shown.get(after.id) === text) continue;
      const first = !shown.has(after.id);
      shown.set(after.id, text);
      const open = new Set([...before.querySelectorAll("details[open][id]")].map((d) => d.id));
      const focused = document.activeElement;
      const place = before.contains(focused)
        ? [...before.querySelectorAll("a, button, summary, input, select")].indexOf(focused) : -1;
      localise(after);
      for (const id of open) after.querySelector(`details[id="${CSS.escape(id)}"]`)?.setAttribute("open", "");
      before.replaceWith(after);
      if (place >= 0) after.querySelectorAll("a, button, summary, input, select")[place]?.focus();
      if (!first) after.classList.add("changed");
      changed = true;
    }
    return changed;
  }

  async function refresh() {
    due = null;
    if (busy) { again = true; return; }
    busy = true;
    last = Date.now();
    try {
      const answer = await fetch(location.href, {headers: {Accept: "text/html"}, cache: "no-store"});
      if (answer.status === 401) return location.reload();  // the session has ended
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const before = document.title;
      replace(fresh);
      if (fresh.title !== before) {
        document.title = fresh.title;
        const icon = fresh.getElementById("icon");
        if (icon) document.getElementById("icon").replaceWith(icon);
      }
      const said = fresh.querySelector("#verdict .state")?.textContent.trim() ?? "";
      if (live.dataset.state !== undefined && live.dataset.state !== said) live.textContent = said;
      live.dataset.state = said;
      delete document.body.dataset.stale;
    } catch (error) {
      document.body.dataset.stale = "";
      live.textContent = "The agent does not answer; what is shown is what was last known.";
    } finally {
      busy = false;
      if (again) { again = false; soon(); }
    }
  }

  function soon() {
    due ??= setTimeout(refresh, Math.max(100, last + AT_MOST_EVERY - Date.now()));
  }

  function listen() {
    if (events || document.hidden) return;
    events = new EventSource(source);
    events.addEventListener("begin", soon);
    events.addEventListener("end", soon);
    events.addEventListener("open", soon);
    events.addEventListener("error", () => {
      if (events?.readyState === EventSource.CLOSED) events = null;  // refused: tried again later
      soon();
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      events?.close();
      events = null;
    } else {
      listen();
      soon();
    }
  });
  addEventListener("pagehide", () => events?.close());
  setInterval(() => {
    if (document.hidden) return;
    listen();
    soon();
  }, AT_LEAST_EVERY);
  live.dataset.state = document.querySelector("#verdict .state")?.textContent.trim() ?? "";
  listen();
})();
