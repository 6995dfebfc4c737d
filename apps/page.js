// Asks the server about a photo or an example, and shows its answer.
"use strict";

const form = document.getElementById("question");
const input = document.getElementById("photo");
const drop = document.getElementById("drop");
const answer = document.getElementById("answer");
const status = document.getElementById("status");
const error = document.getElementById("error");
const empty = answer.firstElementChild;
const examples = [...form.querySelectorAll("[data-example]")];

let asked = null; // what the last question was about: {example} or {photo, name}
let latest = 0; // its number: an answer to an older one is not shown

// Nothing is shown beside a fault: an older answer would seem to be that to the new photo.
const fail = (line) => {
  latest += 1;
  asked = null;
  answer.removeAttribute("aria-busy");
  answer.replaceChildren(empty);
  status.textContent = "";
  error.textContent = line;
  error.scrollIntoView({ block: "nearest" });
};

const base64 = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

// Gradio's queue: a question gets a number, under which its answer comes as the last of a stream of events.
const ask = async (question) => {
  const queue = "queue/gradio_api/call/answer";
  const reply = await fetch(queue, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ data: [question] }),
  });
  if (reply.status === 413) return { error: "The file is too large." };
  if (reply.status === 503) return { error: "Too many people are asking at this moment. Try again in a minute." };
  if (!reply.ok) throw new Error(reply.statusText);
  const events = await (await fetch(`${queue}/${(await reply.json()).event_id}`)).text();
  const [, data] = /event: complete\ndata: (.*)/.exec(events) ?? [];
  if (!data) throw new Error("no answer");
  return JSON.parse(data)[0];
};

const show = async (about, isNew) => {
  const question = { ...about };
  for (const field of form.querySelectorAll("fieldset [name]")) {
    if (!field.reportValidity()) return;
    if (field.value) question[field.name] = field.type === "number" ? Number(field.value) : field.value;
  }
  const number = ++latest;
  asked = about;
  for (const button of examples) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.example) === about.example));
  }
  error.textContent = "";
  status.textContent = "The model looks at the photo …";
  answer.setAttribute("aria-busy", "true");
  let result;
  try {
    result = await ask(question);
  } catch {
    result = { error: "The server does not answer. Is it still running? Reload the page, and try again." };
  }
  if (number !== latest) return;
  if (result.error) return fail(result.error);
  const [chosen, strength] = ["map", "opacity"].map((id) => document.getElementById(id)?.value);
  answer.removeAttribute("aria-busy");
  answer.innerHTML = result.html; // made by the server, which escapes every name
  if (document.getElementById("map")) {
    document.getElementById("opacity").value = strength ?? 45;
    if (!isNew && chosen) document.getElementById("map").value = chosen;
    layMap();
  }
  const headline = document.getElementById("headline");
  status.textContent = `Answer: ${headline.querySelector("strong").textContent}.`;
  if (isNew) headline.focus({ preventScroll: window.innerWidth > 960 });
};

const take = async (file) => {
  const most = Number(input.dataset.max);
  if (file.size > most * 1e6) return fail(`${file.name}: the file is larger than ${most} MB.`);
  const number = ++latest; // a small photo that is taken later may be read earlier
  let photo;
  try {
    photo = await base64(file);
  } catch {
    if (number === latest) fail(`${file.name}: the file cannot be read.`);
    return;
  }
  if (number === latest) await show({ photo, name: file.name }, true);
};

input.addEventListener("change", () => {
  if (input.files.length) take(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // or a photo that misses the frame is opened instead of the page
    drop.classList.toggle("over", type === "dragenter" || type === "dragover");
    if (type !== "drop") return;
    if (event.dataTransfer.files.length > 1) fail("One photo at a time: drop a single file.");
    else if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    else fail("This is not a file: save the picture first, then drop the file.");
  });
}
for (const button of examples) {
  button.addEventListener("click", () => show({ example: Number(button.dataset.example) }, true));
}
form.addEventListener("change", (event) => {
  if (event.target.closest("fieldset") && asked) show(asked, false);
});
form.addEventListener("submit", (event) => event.preventDefault());

const layMap = () => {
  const chosen = document.getElementById("map").value;
  const opacity = document.getElementById("opacity").value / 100;
  for (const heat of answer.querySelectorAll(".heat")) {
    heat.hidden = heat.dataset.label !== chosen;
    heat.style.opacity = opacity;
  }
};
answer.addEventListener("input", (event) => {
  if (event.target.matches("#map, #opacity")) layMap();
});
