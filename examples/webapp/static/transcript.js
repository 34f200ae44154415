// The sentences of a job, and how they keep step with the player.

import { $, clock, el } from "./dom.js";

const audio = $("audio");
const list = $("text");
const rows = new Map(); // "channel begin" -> { sentence, row, words }
const partials = new Map(); // channel -> row
let spoken = []; // those of `rows` that are being spoken; several, where channels are
let frame = 0; // the next look at what is being spoken

export function clear() {
  list.replaceChildren();
  rows.clear();
  partials.clear();
  spoken = [];
  list.classList.remove("seekable", "several");
}

export function addFinal(sentence) {
  const key = `${sentence.channel} ${sentence.begin_time}`;
  if (rows.has(key)) return;
  partials.get(sentence.channel)?.remove();
  partials.delete(sentence.channel);
  const words = [];
  const row = rowOf(sentence, "button");
  row.lastChild.lastChild.append(...pieces(sentence, words));
  rows.set(key, { sentence, row, words });
  // With a stream for each channel they come in the order in which they end.
  const next = [...list.children].find((other) => other.begin > sentence.begin_time);
  list.insertBefore(row, next ?? list.querySelector(".partial"));
}

export function showPartial(sentence) {
  const row = partials.get(sentence.channel) ?? rowOf(sentence, "span", "partial");
  row.lastChild.lastChild.textContent = sentence.text;
  partials.set(sentence.channel, row);
  if (!row.isConnected) list.append(row);
}

export function dropPartials() {
  for (const row of partials.values()) row.remove();
  partials.clear();
}

// Whoever looks at the newest words goes on seeing them; whoever reads further up is left there.
export function keepingTheEndInSight(change) {
  const page = document.scrollingElement;
  const was = page.scrollHeight - page.scrollTop - page.clientHeight < 120;
  change();
  if (was && audio.paused) page.scrollTop = page.scrollHeight;
}

export function offerSound(address) {
  if (address && audio.getAttribute("src") !== address) audio.setAttribute("src", address);
  show(Boolean(address));
}

// Workers read more formats than browsers play.
function show(isOffered) {
  const isPlayable = isOffered && !audio.error;
  $("player").hidden = !isPlayable;
  $("unplayable").hidden = !isOffered || isPlayable;
  list.classList.toggle("seekable", isPlayable);
}

export const isEmpty = () => !list.childElementCount;
export const count = () => rows.size;
export const plainText = () => inOrder().map(({ sentence }) => sentence.text).join("\n");

const inOrder = () => [...rows.values()].sort((a, b) => a.sentence.begin_time - b.sentence.begin_time);

function rowOf(sentence, timeTag, className = "") {
  const time = el(timeTag, { className: "time", text: clock(sentence.begin_time) });
  if (timeTag === "button") {
    time.type = "button";
    time.setAttribute("aria-label", `Play from ${clock(sentence.begin_time)}`);
    time.addEventListener("click", () => play(sentence.begin_time));
  }
  const row = el("li", { className }, time, el("p", {}, el("span", { className: "said", dir: "auto" })));
  if (sentence.channel) list.classList.add("several"); // until then nobody needs to know who speaks
  row.lastChild.prepend(el("span", { className: `speaker c${sentence.channel % 4}`, text: `Channel ${sentence.channel + 1}` }));
  row.begin = sentence.begin_time;
  // Read aloud are finished sentences: an open one changes several times a second.
  if (className === "partial") row.setAttribute("aria-hidden", "true");
  return row;
}

// The sentence's own text, with each of its words in an element that knows its time.
function pieces(sentence, words) {
  const { text } = sentence;
  const parts = [];
  let from = 0;
  for (const word of sentence.words ?? []) {
    const at = text.indexOf(word.text, from);
    if (at < 0 || !word.text) continue;
    const span = el("span", { className: "word", text: word.text });
    span.addEventListener("click", () => list.classList.contains("seekable") && play(word.begin_time));
    parts.push(text.slice(from, at), span);
    words.push({ begin: word.begin_time, end: word.end_time, span });
    from = at + word.text.length;
  }
  parts.push(text.slice(from));
  return parts;
}

// -- In step with the player

function play(ms) {
  if ($("player").hidden) return;
  audio.currentTime = ms / 1000;
  audio.play().catch(() => {}); // a browser may want a click on the player first
  step();
}

function step() {
  const now = audio.currentTime * 1000;
  const before = spoken;
  spoken = [...rows.values()].filter(({ sentence }) => sentence.begin_time <= now && now < sentence.end_time);
  before.filter((one) => !spoken.includes(one)).forEach(unmark);
  spoken.filter((one) => !before.includes(one)).forEach(mark);
  for (const { words } of spoken) {
    for (const { begin, end, span } of words) span.classList.toggle("spoken", begin <= now && now < end);
  }
  cancelAnimationFrame(frame); // that of whoever else called
  if (!audio.paused) frame = requestAnimationFrame(step);
}

function mark({ row }) {
  row.classList.add("spoken");
  if (!audio.paused) row.scrollIntoView({ block: "nearest" });
}

function unmark({ row, words }) {
  row.classList.remove("spoken");
  words.forEach(({ span }) => span.classList.remove("spoken"));
}

audio.addEventListener("play", step);
audio.addEventListener("seeked", step);
audio.addEventListener("error", () => show(!$("player").hidden));

document.addEventListener("keydown", (event) => {
  if (!audio.checkVisibility() || event.target.closest("input, select, button, a, summary, audio")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " ") (audio.paused ? audio.play() : audio.pause());
  else if (event.key === "ArrowLeft") audio.currentTime -= 5;
  else if (event.key === "ArrowRight") audio.currentTime += 5;
  else return;
  event.preventDefault();
});
