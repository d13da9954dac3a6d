// A page opened from a folder (file://) may not start a worker, and the search is one. There, and only there, a hidden
// frame takes its place: it runs the worker's script, and messages go between the frame's window and the page.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      inside.document.open()
      inside.document.close()
      inside.postMessage = data => this.tell("message", data)
      inside.importScripts = (...urls) => Promise.all(urls.map(one => this.load(inside, one)))
      this.inside = inside
      this.load(inside, url).then(() => {
        for (const data of this.waiting.splice(0)) this.hand(data)
        this.waiting = null
      })
    }
    load(inside, url) {
      return new Promise((resolve, reject) => {
        const script = inside.document.createElement("script")
        script.src = url
        script.onload = resolve
        script.onerror = reject
        inside.document.head.append(script)
      })
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.hand(data)
    }
    hand(data) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
    }
    tell(kind, data) {
      const event = new MessageEvent(kind, { data })
      this.dispatchEvent(event)
      if (this[`on${kind}`]) this[`on${kind}`](event)
    }
    terminate() {
      this.inside.frameElement?.remove()
    }
  }
