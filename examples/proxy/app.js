"use strict";

// The session cookie goes along by itself. There is no token that a script could see.
async function call(path, options) {
  const response = await fetch("/api/" + path, options);
  if (response.status === 401) location.assign("/auth/login"); // the session has ended: sign in again
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return response.json();
}

// on lets the button of a section do something, whose outcome is shown below it.
function on(id, action) {
  const output = document.querySelector(`#${id} pre`);
  const show = (value) => { output.textContent = typeof value === "string" ? value : JSON.stringify(value, null, 2); };
  document.querySelector(`#${id} button`).addEventListener("click", () => action(show).then(show, (e) => show(String(e))));
}

on("hello", () => call("hello"));

on("note", () => call("notes", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ text: document.querySelector("#note input").value }),
}));

let events;
on("events", async (show) => {
  events?.close();
  events = new EventSource("/api/events");
  events.onmessage = (event) => show(`It is ${event.data} at the API.`);
  events.onerror = () => show("No events. Trying again …");
  return "Listening …";
});
