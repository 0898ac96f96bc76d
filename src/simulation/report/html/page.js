(function () {
  var pictures = Array.prototype.slice.call(document.querySelectorAll("svg.time"));
  function show(x, at) {
    pictures.forEach(function (svg) {
      var cursor = svg.querySelector(".cursor"), line = cursor.querySelector("line"), text = cursor.querySelector("text");
      cursor.setAttribute("class", x === null ? "cursor" : "cursor on");
      if (x === null) { return; }
      line.setAttribute("x1", x); line.setAttribute("x2", x); text.setAttribute("x", x);
      text.textContent = (at / 1e6).toFixed(2) + " s";
    });
  }
  pictures.forEach(function (svg) {
    var left = Number(svg.dataset.left), right = Number(svg.dataset.right), end = Number(svg.dataset.end);
    svg.addEventListener("mousemove", function (event) {
      var box = svg.getBoundingClientRect();
      var x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      if (left > x || x > right) { show(null); return; }
      show(x, (x - left) / (right - left) * end);
    });
    svg.addEventListener("mouseleave", function () { show(null); });
  });
  var copy = document.getElementById("copy");
  if (copy) {
    if (!navigator.clipboard) { copy.remove(); return; }
    copy.addEventListener("click", function () {
      navigator.clipboard.writeText(document.getElementById("again").textContent).then(function () { copy.textContent = "Copied"; });
    });
  }
})();
