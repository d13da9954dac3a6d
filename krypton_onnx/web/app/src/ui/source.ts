/* Where images come from: dropped, chosen, pasted, or the sample. */

import { element } from "./elements";

export function setUpSource(take: (file: Blob) => void, takeSample: () => void): void {
  const file = element<HTMLInputElement>("file");
  element("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files?.[0] !== undefined) take(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  element("sample").addEventListener("click", takeSample);

  let depth = 0; // of the elements that the pointer has entered
  const dragging = (change: number) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", () => dragging(1));
  document.addEventListener("dragleave", () => dragging(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dragging(-depth);
    const dropped = event.dataTransfer?.files[0];
    if (dropped !== undefined) take(dropped);
  });
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (pasted !== undefined) take(pasted);
  });
}
