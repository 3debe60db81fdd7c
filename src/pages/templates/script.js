"use strict";
for (const input of document.querySelectorAll("input[type=password]")) {
  const frame = document.createElement("div");
  const button = document.createElement("button");
  const show = (shown) => {
    input.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", shown ? "Hide password" : "Show password");
  };
  frame.className = "secret";
  button.type = "button";
  button.className = "reveal";
  button.setAttribute("aria-controls", input.id);
  input.before(frame);
  frame.append(input, button);
  show(false);
  button.addEventListener("click", () => show(input.type === "password"));
  input.form.addEventListener("submit", () => show(false));
  if (input.autofocus) input.focus();
}
const form = document.querySelector("form[data-returns]");
if (form && location.hash.length > 1 && location.hash.length < 1000 && !location.hash.includes("\\")) {
  let target = form.elements.return_to;
  if (!target) {
    target = document.createElement("input");
    target.type = "hidden";
    target.name = "return_to";
    target.value = "/";
    form.append(target);
  }
  if (!target.value.includes("#")) target.value += location.hash;
}
for (const link of document.querySelectorAll("a[data-back]")) {
  if (history.length < 2) continue;
  link.hidden = false;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    history.back();
  });
}
