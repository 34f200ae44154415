// One job on the screen: all of it at once, then its events until it has ended.

import { $, ask, clock, el, ENDED, notice, showState } from "./dom.js";
import * as transcript from "./transcript.js";

let shown = null; // the id of the job that was opened
let drawn = null; // the id of the job on the screen
let source = null;
let again = 0;
let last = "0"; // the newest event that we have seen

export async function open(id) {
  source?.close();
  clearTimeout(again);
  if (shown !== id) $("audio").pause();
  shown = id;
  if (!id) return;
  let job;
  try {
    job = await ask(`/api/jobs/${id}`);
  } catch (error) {
    if (shown !== id) return;
    notice(error.message);
    if (error.status === 404) offerTheForm();
    else retry(() => open(id));
    return;
  }
  if (shown !== id) return; // another one was opened meanwhile
  notice();
  last = job.last;
  draw(job);
  if (!ENDED.includes(job.state)) follow(id);
}

function offerTheForm() {
  document.body.classList.remove("reading");
  $("empty").hidden = false;
}

const retry = (what) => (again = setTimeout(what, 2000 + 2000 * Math.random()));

function follow(id) {
  source = new EventSource(`/api/jobs/${id}/events?after=${last}`);
  source.addEventListener("open", () => notice());
  source.addEventListener("partial", (event) => heard(event, transcript.showPartial));
  source.addEventListener("final", (event) => heard(event, transcript.addFinal));
  source.addEventListener("state", seen); // what it says comes with `job`, too
  source.addEventListener("job", (event) => {
    const job = JSON.parse(event.data);
    if (ENDED.includes(job.state)) open(id); // its result has what the events have not
    else condition(job);
  });
  source.addEventListener("error", () => {
    notice("The connection was lost; trying again …");
    if (source.readyState !== EventSource.CLOSED) return; // the browser comes back by itself
    retry(() => follow(id));
  });
}

function heard(event, show) {
  seen(event);
  $("hint").textContent = "";
  transcript.keepingTheEndInSight(() => show(JSON.parse(event.data)));
}

function seen(event) {
  last = event.lastEventId;
}

function draw(job) {
  $("job").hidden = false;
  $("name").textContent = job.name;
  document.title = `${job.name} · Transcripts`;
  if (drawn === job.id) transcript.dropPartials();
  else transcript.clear();
  drawn = job.id;
  job.sentences.forEach(transcript.addFinal);
  if (job.partial && !ENDED.includes(job.state)) transcript.showPartial(job.partial);
  transcript.offerSound(job.state === "failed" && !job.sentences.length ? null : job.audio);
  $("downloads").hidden = job.state !== "succeeded";
  $("formats").replaceChildren(
    ...job.captions.map((format) =>
      el("a", { className: "format", text: format.toUpperCase(), href: `/api/jobs/${job.id}/captions.${format}`, download: true }),
    ),
  );
  condition(job);
}

function condition(job) {
  const ended = ENDED.includes(job.state);
  showState($("state"), job);
  $("cancel").hidden = ended;
  $("cancel").disabled = job.state === "cancelling";
  $("error").hidden = !job.error;
  $("error").textContent = job.state === "queued" && job.error ? `${job.error} It is tried again.` : job.error;
  $("facts").textContent = facts(job);
  $("hint").textContent = hint(job);
  progress(job, ended);
}

function facts(job) {
  if (job.state === "succeeded") {
    const took = job.timing.wall_ms ? ` · transcribed in ${clock(job.timing.wall_ms)}` : "";
    const sentences = transcript.count() === 1 ? "1 sentence" : `${transcript.count()} sentences`;
    return `${clock(job.duration_ms)} long · ${sentences}${took}`;
  }
  return job.duration_ms ? `${clock(job.progress_ms)} of ${clock(job.duration_ms)}` : "";
}

function hint(job) {
  if (!transcript.isEmpty()) return "";
  if (job.state === "succeeded") return "Nothing was said in this recording.";
  if (job.state === "queued") return "No worker has taken it yet.";
  return job.state === "running" ? "The first words are about to come …" : "";
}

function progress(job, ended) {
  const share = job.duration_ms ? Math.min(100, (100 * job.progress_ms) / job.duration_ms) : 0;
  $("progress").hidden = ended;
  $("progress").firstElementChild.style.width = `${share}%`;
  $("progress").setAttribute("aria-valuenow", Math.round(share));
}

$("cancel").addEventListener("click", async () => {
  $("cancel").disabled = true;
  try {
    await ask(`/api/jobs/${shown}/cancel`, { method: "POST" });
  } catch (error) {
    notice(error.message);
    $("cancel").disabled = false;
  }
});

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(transcript.plainText());
    $("copy").textContent = "Copied";
  } catch {
    $("copy").textContent = "Your browser does not allow it";
  }
  setTimeout(() => ($("copy").textContent = "Copy text"), 2000);
});
