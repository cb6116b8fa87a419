// Sortable tables, and open details on paper; page.py puts it into the page.
for (const table of document.querySelectorAll("table.sortable"))
  table.querySelectorAll("thead button").forEach((button, column) => button.onclick = () => {
    const th = button.parentElement, up = th.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = key(a), y = key(b), numeric = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return (numeric ? x - y : x.localeCompare(y, undefined, {numeric: true})) * (up ? 1 : -1);
    });
    table.tBodies[0].append(...rows);
  });
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
