// The page: which job is shown, the form for a new one, the list of recent ones.

import { $, ask, el, notice, showState } from "./dom.js";
import { open } from "./job.js";

// -- Which job is shown: the address says it

let current = null;

function show(path, { push = false } = {}) {
  if (push) history.pushState(null, "", path);
  current = path.match(/^\/jobs\/([0-9a-f]{32})$/)?.[1] ?? null;
  document.body.classList.toggle("reading", current !== null);
  document.title = "Transcripts";
  notice();
  $("empty").hidden = current !== null;
  $("job").hidden = true;
  mark();
  scrollTo(0, 0);
  return open(current);
}

addEventListener("popstate", () => show(location.pathname));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || link.hasAttribute("download")) return;
  if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  show(link.getAttribute("href"), { push: true });
});

// -- A new job

let file = null;
let uploaded = null; // the id of its upload, so that a second try does not send it again
const drop = $("drop");

function choose(chosen) {
  file = chosen ?? null;
  uploaded = null;
  drop.classList.toggle("has", file !== null);
  $("chosen").replaceChildren(
    el("strong", { text: file?.name ?? "Choose a recording", dir: "auto" }),
    el("span", { text: file ? size(file.size) : "or drop it here" }),
  );
  refuse();
}

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function refuse(text = "") {
  $("refusal").textContent = text;
  $("refusal").hidden = !text;
}

// One of the two: who names the other has changed his mind.
function take(chosen) {
  $("url").value = "";
  choose(chosen);
}

$("file").addEventListener("change", () => take($("file").files[0]));
$("url").addEventListener("input", () => {
  $("file").value = "";
  choose(null);
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const { files } = event.dataTransfer;
  if (!files.length || $("fields").disabled) return;
  take(files[0]);
  if (files.length > 1) refuse(`Only the first of ${files.length} files was taken.`);
});

// The file is the body of the request. XMLHttpRequest, because fetch does not tell how much has gone.
function upload(body, told) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/api/uploads");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => told(event.loaded / event.total));
    request.addEventListener("load", () =>
      request.status === 201 ? done(request.response.upload) : failed(new Error(request.response?.error ?? "The upload failed.")),
    );
    request.addEventListener("error", () => failed(new Error("The upload was broken off, or the file cannot be read; try again, or choose it again.")));
    request.send(body);
  });
}

async function send() {
  const asked = {
    language: $("language").value,
    pace: Number($("pace").value),
    live: $("live").checked,
    channels: $("split").checked ? "split" : "mix",
  };
  if (file) {
    asked.name = file.name;
    uploaded ??= await upload(file, (share) => ($("go").textContent = `Uploading ${Math.floor(100 * share)} %`));
    asked.upload = uploaded;
  } else {
    asked.url = $("url").value;
  }
  const headers = { "Content-Type": "application/json" };
  return ask("/api/jobs", { method: "POST", headers, body: JSON.stringify(asked) });
}

$("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  refuse();
  $("fields").disabled = true; // what is being sent is what the form shows
  try {
    const { id } = await send();
    $("file").value = "";
    take(null);
    await show(`/jobs/${id}`, { push: true });
    $("main").focus();
    refresh();
  } catch (error) {
    refuse(error.message);
  } finally {
    $("fields").disabled = false;
    $("go").textContent = "Transcribe";
  }
});

// -- Recent jobs

const EVERY = 2000;
let drawn = "";
let away = false;

async function refresh() {
  try {
    list((await ask("/api/jobs")).jobs);
    if (away) notice();
    away = false;
  } catch (error) {
    away = true;
    notice(error.message);
  }
}

function list(jobs) {
  $("none").hidden = jobs.length > 0;
  const now = JSON.stringify(jobs.map((job) => [job.id, told(job), job.state, job.waits]));
  if (now === drawn) return; // what has the focus, or is being clicked, stays
  drawn = now;
  const focused = document.activeElement?.getAttribute("href");
  $("recent").replaceChildren(...jobs.map(item));
  mark();
  if (focused?.startsWith("/jobs/")) $("recent").querySelector(`[href="${focused}"]`)?.focus();
}

function item(job) {
  const chip = el("span");
  showState(chip, job);
  const title = el("span", { className: "title", text: job.name, title: job.name, dir: "auto" });
  const when = el("span", { className: "when", text: told(job) });
  return el("li", {}, el("a", { href: `/jobs/${job.id}` }, title, chip, when));
}

function told(job) {
  if (job.state === "failed") return job.error;
  const share = job.duration_ms ? Math.round((100 * job.progress_ms) / job.duration_ms) : 0;
  if (job.state === "running" && share) return `${share} % heard`;
  const at = new Date(1000 * job.created_at);
  const today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString([], { timeStyle: "short" }) : at.toLocaleDateString([], { dateStyle: "medium" });
}

function mark() {
  for (const link of $("recent").querySelectorAll("a")) {
    if (link.getAttribute("href") === `/jobs/${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

setInterval(() => document.hidden || refresh(), EVERY);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
choose(null);
show(location.pathname);
refresh();
