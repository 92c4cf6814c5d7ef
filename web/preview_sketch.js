// Preview Sketch: the drawings in the node, black on white, each an <img> of a blob. An <img> runs no script of
// an SVG, and nothing depends on /view, which some versions serve as a download. addDOMWidget works in the canvas
// renderer and in Nodes 2.0 alike.
import { app } from "../../scripts/app.js";
import { after } from "./hooks.js";

const NODE = "SK_Preview";
const MIN_HEIGHT = 200;
const CAPTION = 14; // px
const GAP = 4; // px

function columnsFor(count, width, height, caption) {
  let best = 1;
  let bestSide = 0;
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const side = Math.min((width - GAP) / columns - GAP, (height - GAP) / rows - GAP - caption);
    if (side > bestSide) [best, bestSide] = [columns, side];
  }
  return [best, Math.max(8, Math.floor(bestSide))];
}

class Sheet {
  constructor() {
    this.element = document.createElement("div");
    this.element.className = "sk-preview";
    // Clicks and the wheel go through to the node: it is dragged and the graph zoomed as everywhere else.
    this.element.style.cssText =
      "display:flex;flex-wrap:wrap;align-content:center;justify-content:center;overflow:hidden;width:100%;height:100%;" +
      `min-height:${MIN_HEIGHT}px;gap:${GAP}px;padding:${GAP}px;box-sizing:border-box;pointer-events:none;` +
      "font:11px sans-serif;color:var(--descrip-text,#999)";
    this.urls = [];
    this.cells = [];
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(this.element);
    this.say("Run the graph to see the drawings.");
  }

  say(text) {
    this.clear();
    this.element.textContent = text;
  }

  show(drawings, total) {
    this.clear();
    this.element.replaceChildren(
      ...drawings.map(({ svg, title }, i) => {
        const image = document.createElement("img");
        image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
        image.alt = title;
        image.style.cssText = "display:block;background:#fff;border-radius:2px";
        this.urls.push(image.src);
        const caption = document.createElement("div");
        const more = i === drawings.length - 1 && total > drawings.length ? ` (${total} in all)` : "";
        caption.textContent = title + more;
        caption.style.cssText =
          `height:${CAPTION}px;line-height:${CAPTION}px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;text-align:center`;
        const cell = document.createElement("div");
        cell.append(image, caption);
        this.cells.push({ cell, image, caption });
        return cell;
      }),
    );
    this.layout();
  }

  layout() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!this.cells.length || !width || !height) return;
    const roomy = columnsFor(this.cells.length, width, height, CAPTION)[1] >= 48;
    const [, side] = columnsFor(this.cells.length, width, height, roomy ? CAPTION : 0);
    for (const { cell, image, caption } of this.cells) {
      cell.style.width = image.style.width = image.style.height = `${side}px`;
      caption.style.display = roomy ? "" : "none";
    }
  }

  clear() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    this.cells = [];
    this.element.replaceChildren();
  }

  dispose() {
    this.clear();
    this.observer.disconnect();
  }
}

app.registerExtension({
  name: "SketchKnitter.PreviewSketch",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    after(nodeType.prototype, "onNodeCreated", function () {
      this.skSheet = new Sheet();
      const widget = this.addDOMWidget("drawings", "sk_preview", this.skSheet.element, {
        serialize: false,
        hideOnZoom: false,
        getMinHeight: () => MIN_HEIGHT,
      });
      widget.serialize = false;
      this.setSize([Math.max(this.size[0], 320), Math.max(this.size[1], 380)]);
    });
    after(nodeType.prototype, "onExecuted", function (output) {
      if (output?.sk_preview) this.skSheet?.show(output.sk_preview, output.sk_total?.[0] ?? 0);
    });
    after(nodeType.prototype, "onConfigure", function () {
      // A tab that is opened again keeps its outputs, and gets them a moment after its nodes.
      for (const pause of [0, 500]) {
        setTimeout(() => {
          const output = app.nodeOutputs?.[this.id];
          if (output?.sk_preview && !this.skSheet?.cells.length) this.onExecuted?.(output);
        }, pause);
      }
    });
    after(nodeType.prototype, "onRemoved", function () {
      this.skSheet?.dispose();
    });
  },
});
