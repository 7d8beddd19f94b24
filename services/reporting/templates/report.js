const chosen = document.getElementById("chosen");

function choose(network) {
  const row = document.getElementById(`row-${network}`);
  const drawing = row.dataset.drawing;
  for (const element of document.querySelectorAll("[data-network]")) {
    element.classList.toggle("chosen", element.dataset.network === network || element.id === drawing);
  }
  const name = document.createElement("b");
  name.textContent = row.cells[0].textContent.trim();
  chosen.replaceChildren(name, ` is marked: ${row.cells[1].textContent} layers, ${row.cells[3].textContent} parameters. See `);
  for (const [id, label] of [[drawing, "its layers"], [row.id, "its row in the table"]]) {
    if (!id) continue;
    const link = document.createElement("a");
    link.href = `#${id}`;
    link.textContent = label;
    chosen.append(chosen.querySelector("a") ? ", " : "", link);
  }
}

document.addEventListener("click", (event) => {
  const network = (markAt(event) ?? event.target.closest("button"))?.dataset.network;
  if (network) choose(network);
});
document.addEventListener("keydown", (event) => {
  if (!["Enter", " "].includes(event.key) || !event.target.matches(".mark[data-network]")) return;
  event.preventDefault();
  choose(event.target.dataset.network);
});
