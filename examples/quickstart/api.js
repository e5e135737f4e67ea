"use strict";

// The session cookie goes along by itself. There is no token that a script could see.
async function call() {
  const answer = document.getElementById("answer");
  const status = document.createElement("p");
  const body = document.createElement("pre");
  try {
    const response = await fetch("/api/me", { headers: { Accept: "application/json" } });
    status.textContent = `${response.status} ${response.ok ? "OK" : response.statusText}`;
    status.className = response.ok ? "good" : "bad";
    body.textContent = JSON.stringify(await response.json(), null, 2);
  } catch (error) {
    status.textContent = "No answer";
    status.className = "bad";
    body.textContent = String(error);
  }
  answer.replaceChildren(status, body);
}

document.getElementById("call").addEventListener("click", call);
call();
