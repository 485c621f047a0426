// Inside Airflow's frame: follow Airflow's light or dark mode, and open links to other tools in a tab of their own
// (the frame may not open tabs, the page around it may).
const around = window.parent === window ? null : pageAround();

function pageAround() {
  try {
    return window.parent.document.documentElement;
  } catch {
    return null;
  }
}

function followTheme() {
  const theme = ["dark", "light"].find((name) => around.classList.contains(name));
  if (theme) document.documentElement.dataset.theme = theme;
}

if (around) {
  followTheme();
  new MutationObserver(followTheme).observe(around, { attributeFilter: ["class"] });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[target=_blank]");
    if (!link) return;
    event.preventDefault();
    window.parent.open(link.href, "_blank", "noopener");
  });
}
