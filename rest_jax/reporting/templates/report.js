const wanted = { stage: "", only: "", text: "" };
function show() {
  for (const item of document.querySelectorAll("details.trajectory")) {
    const right = item.dataset.em === "1";
    const fits = (!wanted.stage || item.dataset.stage === wanted.stage)
      && (!wanted.only || (wanted.only === "right") === right)
      && (!wanted.text || item.textContent.toLowerCase().includes(wanted.text));
    item.hidden = !fits;
  }
}
for (const control of document.querySelectorAll("[data-filter]")) {
  control.addEventListener("input", () => { wanted[control.dataset.filter] = control.value.toLowerCase(); show(); });
}
