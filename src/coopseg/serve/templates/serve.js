"use strict";
// Sends what is dropped or chosen, and shows how the jobs stand. The tab alone remembers which are its own.
const at = id => document.getElementById(id);
const limits = JSON.parse(at("limits").textContent);
const headers = { [limits.mark]: "1" };
const KEPT = "coopseg jobs", PERIOD = 700, FEW = 3;  // lines that need not be unfolded
const jobs = JSON.parse(sessionStorage.getItem(KEPT) || "[]");

const keep = () => sessionStorage.setItem(KEPT, JSON.stringify(jobs));
const counted = (number, what) => number + " " + what + (number === 1 ? "" : "s");

function say(line) {
  at("said").textContent = line;
  at("said").hidden = !line;
}

function addRow(name) {
  const row = at("job").content.cloneNode(true).firstElementChild;
  row.querySelector("h3").textContent = name;
  row.querySelector("button").setAttribute("aria-label", "Remove " + name);
  at("jobs").prepend(row);
  at("none").hidden = true;
  return row;
}

function dropRow(row) {
  row.remove();
  at("none").hidden = at("jobs").childElementCount > 0;
}

function tell(row, line, share) {
  const state = row.querySelector(".state");
  if (state.textContent !== line) state.textContent = line;  // a reader of the screen says it once
  const bar = row.querySelector("progress");
  bar.hidden = share === null;
  if (share === undefined) bar.removeAttribute("value");
  else if (share !== null) bar.value = share;
}

function fail(row, line) {
  row.classList.add("failed");
  tell(row, line, null);
}

function warn(row, lines) {
  const box = row.querySelector("details");
  box.querySelector("summary").textContent = counted(lines.length, "thing") + " to look at";
  box.querySelector("ul").replaceChildren(...lines.map(line => {
    const entry = document.createElement("li");
    entry.textContent = line;
    return entry;
  }));
  box.open = lines.length <= FEW;
  box.hidden = !lines.length;
}

// files: [file, its path] pairs
function send(files) {
  say("");
  const size = files.reduce((sum, [file]) => sum + file.size, 0);
  if (!files.length) return say("There is no file in what was chosen.");
  if (size > limits.bytes || files.length > limits.files) {
    return say(counted(files.length, "file") + " of " + Math.ceil(size / 2 ** 20) + " MB are too much: at most " + limits.files
      + " files of " + Math.floor(limits.bytes / 2 ** 20) + " MB can be sent at once.");
  }
  const name = files[0][1].split("/")[0] + (files.length > 1 ? " (" + counted(files.length, "file") + ")" : "");
  const row = addRow(name), form = new FormData(), request = new XMLHttpRequest();
  files.forEach(([file, path]) => form.append("files", file, path));
  request.open("POST", "jobs");
  request.setRequestHeader(limits.mark, "1");
  request.upload.onprogress = event => tell(row, "being sent: " + Math.floor(event.loaded / event.total * 100) + " %", event.loaded / event.total);
  request.onerror = () => fail(row, "It could not be sent; the service may have ended.");
  request.onabort = () => dropRow(row);
  request.onload = () => {
    if (request.status !== 201) return fail(row, request.responseText);
    const job = { id: JSON.parse(request.responseText).id, name };
    jobs.push(job);
    keep();
    follow(job, row);
  };
  row.querySelector("button").onclick = () => request.readyState === XMLHttpRequest.DONE ? dropRow(row) : request.abort();
  tell(row, "being sent", 0);
  request.send(form);
}

function forget(job, row) {
  jobs.splice(jobs.indexOf(job), 1);
  keep();
  dropRow(row);
}

function describe(job) {
  if (job.state === "waiting") return ["waiting, place " + job.place, 0];
  if (job.state === "running") {
    if (!job.segmented) return ["being segmented", undefined];
    if (job.segmented === job.total) return ["the pages are being written", undefined];
    return ["being segmented: scan " + (job.segmented + 1) + " of " + job.total, job.segmented / job.total];
  }
  const until = new Date(Date.now() + job.seconds_left * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return [job.state + (job.line ? ": " + job.line : "") + (job.state === "done" ? " (kept until " + until + ")" : ""), null];
}

async function follow(job, row) {
  const place = "jobs/" + job.id;
  let gone = false;
  row.querySelector("button").onclick = async () => {
    gone = true;
    await fetch(place, { method: "DELETE", headers }).catch(() => null);
    forget(job, row);
  };
  while (!gone) {
    const answer = await fetch(place).catch(() => null);
    if (gone) return;
    if (answer && answer.status === 404) return forget(job, row);
    if (answer && answer.ok) {
      const now = await answer.json();
      tell(row, ...describe(now));
      if (now.state === "failed") row.classList.add("failed");
      if (now.state === "done") {
        const page = row.querySelector(".page");
        page.href = place + "/pages/" + now.page.split("/").map(encodeURIComponent).join("/");
        page.textContent = now.patients === 1 ? "Open the page" : "Open the list of " + now.patients + " patients";
        page.hidden = false;
        for (const link of row.querySelectorAll("[data-file]")) {
          link.href = place + "/" + link.dataset.file;
          link.hidden = !now.files.includes(link.dataset.file);
        }
        warn(row, now.warnings);
      }
      if (now.state === "done" || now.state === "failed") return;
    } else {
      tell(row, "the service does not answer", undefined);
    }
    await new Promise(resolve => setTimeout(resolve, PERIOD));
  }
}

// all files of a dropped folder
async function inside(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[file, entry.fullPath.replace(/^\//, "")]];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const each of some) found.push(...await inside(each));
  }
}

for (const id of ["files", "folder"]) {
  at(id).addEventListener("change", event => {
    const chosen = [...event.target.files].map(file => [file, file.webkitRelativePath || file.name]);
    event.target.value = "";
    send(chosen);
  });
}
let depth = 0;  // the pointer enters what lies inside before it leaves the outside
document.addEventListener("dragenter", () => { depth += 1; at("drop").classList.add("over"); });
document.addEventListener("dragleave", () => { depth -= 1; if (!depth) at("drop").classList.remove("over"); });
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", async event => {
  event.preventDefault();
  depth = 0;
  at("drop").classList.remove("over");
  const plain = [...event.dataTransfer.files].map(file => [file, file.name]);
  const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(entry => entry);
  try {
    send(entries.length ? (await Promise.all(entries.map(inside))).flat() : plain);
  } catch {
    say("What was dropped cannot be read; choose it with a button instead.");
  }
});
jobs.slice().forEach(job => follow(job, addRow(job.name)));
