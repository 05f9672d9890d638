// The clients of record.py that are not Python: node clients.cjs <client> <base URL> < cases.json
"use strict";

const { readFileSync } = require("node:fs");
const [client, base] = process.argv.slice(2);
const cases = JSON.parse(readFileSync(0, "utf8"));
const TEXT = { "content-type": "text/plain;charset=UTF-8" };

// Runs in Node and, as source text, in the browser.
function formOf(one) {
  const form = new FormData();
  form.append("message", one.message);
  for (const [name, value] of one.others) form.append(name, value);
  for (const file of one.files) {
    const bytes = Uint8Array.from(atob(file.base64), (letter) => letter.charCodeAt(0));
    form.append(file.name, new File([bytes], file.filename, { type: file.type }));
  }
  return form;
}

function fetchOptions(one) {
  const json = { "content-type": "application/json" };
  if (one.kind === "json") return { headers: json, body: JSON.stringify(one.document) };
  if (one.kind === "form") return { body: new URLSearchParams([["message", one.message], ...one.others]) };
  if (one.kind === "text") return { body: one.message };
  return { body: formOf(one) };
}

async function withFetch(one) {
  const options = fetchOptions(one);
  if (one.is_chunked) {
    options.body = new Blob([options.body]).stream();
    options.duplex = "half";
    options.headers = options.headers || TEXT;
  }
  return (await fetch(base + one.path, { method: "POST", ...options })).text();
}

async function withAxios(one) {
  const axios = require("axios");
  const { Readable } = require("node:stream");
  const json = { headers: { "content-type": "application/json" } };
  let body = one.kind === "json" ? one.document : one.message;
  if (one.kind === "form") body = new URLSearchParams([["message", one.message], ...one.others]);
  if (one.kind === "multipart" || one.kind === "upload") body = formOf(one);
  if (!one.is_chunked) return axios.post(base + one.path, body, one.kind === "text" ? { headers: TEXT } : {});
  const stream = Readable.from([one.kind === "json" ? JSON.stringify(body) : body]);
  return axios.post(base + one.path, stream, one.kind === "json" ? json : { headers: TEXT });
}

// The form-data package, which most Node code older than the built-in FormData sends uploads with.
async function withFormData(one) {
  if (one.kind !== "multipart" && one.kind !== "upload") return;
  const FormData = require("form-data");
  const form = new FormData();
  form.append("message", one.message);
  for (const [name, value] of one.others) form.append(name, value);
  for (const file of one.files) {
    const options = { filename: file.filename, contentType: file.type || "application/octet-stream" };
    form.append(file.name, Buffer.from(file.base64, "base64"), options);
  }
  const done = Promise.withResolvers ? Promise.withResolvers() : deferred();
  form.submit(base + one.path, (error, response) => {
    if (error) return done.reject(error);
    response.resume();
    response.on("end", done.resolve);
  });
  await done.promise;
}

function deferred() {
  const done = {};
  done.promise = new Promise((resolve, reject) => Object.assign(done, { resolve, reject }));
  return done;
}

// In the page: a form that a person fills in and submits, into a frame so that the page stays.
async function submitForm(one) {
  const form = document.createElement("form");
  form.method = "post";
  form.action = one.path;
  form.target = "sink";
  form.enctype = { form: "application/x-www-form-urlencoded", text: "text/plain" }[one.kind] || "multipart/form-data";
  const text = Object.assign(document.createElement("textarea"), { name: "message", value: one.message });
  form.append(text, Object.assign(document.createElement("input"), { type: "submit", name: "send", value: "Send it" }));
  for (const [name, value] of one.others) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "_charset_" }));
  for (const file of one.files) {
    const input = Object.assign(document.createElement("input"), { type: "file", name: file.name });
    if (file.filename) {
      const bytes = Uint8Array.from(atob(file.base64), (letter) => letter.charCodeAt(0));
      const chosen = new DataTransfer();
      chosen.items.add(new File([bytes], file.filename, { type: file.type }));
      input.files = chosen.files;
    }
    form.append(input);
  }
  document.body.append(form);
  const frame = document.querySelector("iframe");
  const loaded = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  form.requestSubmit(form.querySelector("[type=submit]"));
  await loaded;
  form.remove();
}

function sendXhr(one) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", one.path);
    if (one.kind === "json") request.setRequestHeader("Content-Type", "application/json; charset=utf-8");
    request.onload = resolve;
    request.onerror = reject;
    request.send(fetchOptions(one).body);
  });
}

async function sendFetch(one) {
  await (await fetch(one.path, { method: "POST", ...fetchOptions(one) })).text();
}

function sendBeacon(one) {
  return navigator.sendBeacon(one.path, fetchOptions(one).body);
}

const IN_PAGE = {
  "chromium form": [submitForm, (one) => one.kind !== "json"],
  "chromium fetch": [sendFetch, () => true],
  "chromium XHR": [sendXhr, () => true],
  "chromium beacon": [sendBeacon, (one) => one.kind !== "json"],
};

async function inBrowser() {
  const { chromium } = require("playwright-core");
  const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: [...flags, "--no-sandbox", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage();
  await page.goto(base + "/");
  await page.addScriptTag({ content: [formOf, fetchOptions].join("\n") });
  const [send, takes] = IN_PAGE[client];
  for (const one of cases.filter((each) => takes(each) && !each.is_chunked)) await page.evaluate(send, one);
  await browser.close();
}

async function inNode() {
  const send = { "node fetch": withFetch, "node axios": withAxios, "node form-data": withFormData }[client];
  for (const one of cases) await send(one);
}

(client in IN_PAGE ? inBrowser() : inNode()).catch((error) => {
  console.error(error);
  process.exit(1);
});
