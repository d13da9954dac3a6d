"use strict";

/* The front page: an image goes to /explain/stream, the map is drawn as it fills, the report is shown at its end. */

const byId = (id) => document.getElementById(id);
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);

let underWay = null; // AbortController of the request
let saved = null; // URL of the report

function authorized() {
  const token = byId("token").value;
  return token === "" ? {} : { Authorization: `Bearer ${token}` };
}

function tell(text) {
  byId("told").textContent = text;
}

/** What the form asks: fields that are empty are the service's to choose. */
function asked() {
  const form = new FormData(byId("form"));
  for (const [name, value] of [...form]) if (value === "") form.delete(name);
  form.set("format", "html");
  return form;
}

/** Events of a stream, as [name, data], however it is cut into pieces. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const event = { name: "", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      rest = rest.slice(end + 2);
      if (event.name) yield [event.name, JSON.parse(event.data)];
    }
  }
}

function showProgress({ done, total }) {
  byId("progress").max = total;
  byId("progress").value = done;
  byId("done").textContent = `${done} of ${total} positions`;
}

/** The first class: red where hiding lowers its score, blue where it raises it, on a scale of what is known yet. */
function showRefinement({ shape, scores, baseline }) {
  const [, rows, columns] = shape;
  const values = floats(scores);
  const drops = Array.from({ length: rows * columns }, (_, index) => baseline[0] - values[index]);
  const most = Math.max(...drops.filter(Number.isFinite).map(Math.abs), Number.MIN_VALUE);
  const canvas = byId("preview");
  canvas.width = columns;
  canvas.height = rows;
  canvas.hidden = false;
  const painted = new ImageData(columns, rows);
  drops.forEach((drop, index) => {
    const weak = Number.isFinite(drop) ? Math.round(255 * (1 - Math.abs(drop) / most)) : 225;
    const color = Number.isFinite(drop) ? (drop > 0 ? [255, weak, weak] : [weak, weak, 255]) : [weak, weak, weak];
    painted.data.set([...color, 255], 4 * index);
  });
  canvas.getContext("2d").putImageData(painted, 0, 0);
}

function showReport(map) {
  const bytes = Uint8Array.from(atob(map.file.base64), (one) => one.charCodeAt(0));
  if (saved !== null) URL.revokeObjectURL(saved);
  saved = URL.createObjectURL(new Blob([bytes], { type: "text/html" }));
  byId("save").href = saved;
  byId("report").srcdoc = new TextDecoder().decode(bytes);
  byId("result").hidden = false;
  tell(`${map.complete ? "The map is complete" : "The deadline passed: the map is not complete"}: ${map.names.join(", ")}.`);
  byId("result-title").scrollIntoView();
}

async function failed(answer) {
  if (answer.status === 401) {
    byId("token-row").hidden = false;
    byId("token").focus();
  }
  const said = await answer.json().catch(() => ({ detail: answer.statusText }));
  const later = answer.headers.get("Retry-After");
  tell(`Not explained: ${said.detail}${later ? ` (again in ${later} s)` : ""}`);
}

async function explain() {
  underWay = new AbortController();
  byId("explain").disabled = true;
  byId("stop").hidden = false;
  byId("result").hidden = true;
  byId("computing").hidden = false;
  byId("preview").hidden = true;
  byId("progress").removeAttribute("value");
  byId("done").textContent = "waiting";
  tell("The image is being explained.");
  try {
    const answer = await fetch("explain/stream", {
      method: "POST", body: asked(), headers: authorized(), signal: underWay.signal,
    });
    if (!answer.ok) return await failed(answer);
    let ended = false;
    for await (const [name, data] of events(answer.body)) {
      if (name === "progress") showProgress(data);
      if (name === "refinement") showRefinement(data);
      if (name === "restarted") tell("The worker ended; it is begun once more.");
      if (name === "error") tell(`Not explained: ${data.detail}`);
      if (name === "map") showReport(data);
      ended ||= name === "error" || name === "map";
    }
    if (!ended) tell("Not explained: the connection ended.");
  } catch (error) {
    tell(error.name === "AbortError" ? "Stopped." : "Not explained: the service does not answer.");
  } finally {
    underWay = null;
    byId("explain").disabled = false;
    byId("stop").hidden = true;
    byId("computing").hidden = true;
  }
}

async function start() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (underWay === null) explain();
  });
  byId("stop").addEventListener("click", () => underWay?.abort());
  const place = byId("drop");
  for (const name of ["dragenter", "dragover"]) {
    place.addEventListener(name, (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
  }
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer.files.length > 0) byId("image").files = event.dataTransfer.files;
  });
  byId("token").addEventListener("change", describe);
  await describe();
  document.documentElement.classList.add("ready");
}

async function describe() {
  const answer = await fetch("model", { headers: authorized() }).catch(() => null);
  byId("token-row").hidden = answer?.status !== 401 && byId("token").value === "";
  if (!answer?.ok) return;
  const model = await answer.json();
  byId("model").textContent = `${model.name}, ${model.width} x ${model.height} pixels`;
  const { patch, stride } = model.defaults.occlusion ?? {};
  if (patch) byId("patch").placeholder = patch.join(",");
  if (stride) byId("stride").placeholder = stride.join(",");
  byId("mode").options[2].disabled = model.tuning === null;
}

start();
