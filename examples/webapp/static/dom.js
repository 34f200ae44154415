// Small helpers. Text becomes text nodes, never markup.

export const $ = (id) => document.getElementById(id);

export function el(tag, { className = "", text = "", ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${String(m).padStart(2, "0")}:${String(s).padStart(2, "0")}` : `${m}:${String(s).padStart(2, "0")}`;
}

export const ENDED = ["succeeded", "failed", "cancelled"];

const NAMES = {
  queued: "Waiting",
  running: "Listening",
  cancelling: "Cancelling",
  succeeded: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

export function showState(chip, job) {
  const waits = job.waits && job.state !== "cancelling" && !ENDED.includes(job.state);
  chip.className = `chip ${waits ? "waits" : job.state}`;
  chip.textContent = waits ? "Waits for its turn" : (NAMES[job.state] ?? job.state);
}

export function notice(text = "") {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// What the app answers, as an object; or an Error with the sentence that it gave.
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. This page tries again by itself.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(answer.error ?? `The server says ${response.status}.`), { status: response.status });
  }
  return answer;
}
