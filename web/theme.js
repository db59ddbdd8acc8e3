// Before the first paint, so that nothing flashes: the theme a person chose, else the system's.
document.documentElement.dataset.theme = localStorage.getItem("adflux-theme") || "auto";
