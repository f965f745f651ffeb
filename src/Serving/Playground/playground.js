"use strict";
(() => {
  // This page calls the routes of docs/serving.md. Data from the server or a link is shown as text and never becomes markup.
  const $ = id => document.getElementById(id);
  const root = new URL(location.pathname.endsWith("/") ? "." : location.pathname + "/", location.href);
  const keyName = "tiller-api-key";
  const presets = [
    { name: "unchanged" },
    { name: "off: λ 0", lambda: 0 },
    { name: "gentle: λ 0.5", lambda: 0.5 },
    { name: "the distance between the two lists: λ 1", lambda: 1 },
    { name: "strong: λ 2", lambda: 2 },
    { name: "opposite direction: λ −1", lambda: -1 },
    { name: "strong, but bounded: λ 2, |u| ≤ 2", lambda: 2, maxEffort: "2" },
  ];
  let model = null;
  let controllers = [];         // the server's controllers
  const chosen = new Map();     // name -> λ of the controllers that are switched on
  let chat = [];                // the messages so far
  let running = null;           // { id, abort, names, lambdas } while a text streams; otherwise null
  let steps = [];               // { text, error: [], effort: [], input: [] } for each steered token
  let moves = [];               // numbers of the tokens before which λ was changed
  let bound = null;             // the upper bound of |u| of the shown answer
  let cursor = null;            // { token, layer }: the selected cell of the heat map

  // ---- The server. ----

  async function call(path, options = {}) {
    for (;;) {
      const key = sessionStorage.getItem(keyName);
      const headers = { ...options.headers };
      if (key) headers.Authorization = `Bearer ${key}`;
      if (options.json !== undefined) headers["Content-Type"] = "application/json";
      const response = await fetch(new URL(path, root), {
        method: options.method ?? (options.json === undefined ? "GET" : "POST"),
        headers, signal: options.signal, body: options.json === undefined ? undefined : JSON.stringify(options.json),
      });
      if (response.ok) return response;
      if (response.status === 401) {
        await askForKey(key);
        continue;
      }
      const body = await response.json().catch(() => null);
      const error = new Error(body?.error?.message ?? `The server answered ${response.status}.`);
      error.code = body?.error?.code;
      throw error;
    }
  }

  let asking = null; // several calls may need the key at the same time, but the user is asked once
  function askForKey(refused) {
    if (sessionStorage.getItem(keyName) === refused) sessionStorage.removeItem(keyName);
    asking ??= new Promise(resolve => {
      const dialog = $("key-dialog");
      const take = () => {
        if ($("key").value === "") {
          dialog.showModal();
          return;
        }
        dialog.removeEventListener("close", take);
        sessionStorage.setItem(keyName, $("key").value);
        $("key").value = "";
        asking = null;
        resolve();
      };
      dialog.addEventListener("close", take);
      dialog.showModal();
    });
    return asking;
  }

  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const whole = rest.split("\n\n");
      rest = whole.pop();
      for (const event of whole) {
        const lines = event.split("\n");
        const data = lines.filter(line => line.startsWith("data:")).map(line => line.slice(5).trim()).join("\n");
        const name = lines.find(line => line.startsWith("event:"))?.slice(6).trim() ?? "";
        if (data !== "" && data !== "[DONE]") yield { name, data: JSON.parse(data) };
      }
    }
  }

  function tell(error) {
    if (error?.name !== "AbortError") $("alert").textContent = error?.message ?? String(error);
  }

  // ---- Controllers. ----

  async function loadControllers() {
    controllers = (await (await call("v1/controllers")).json()).data;
    for (const name of [...chosen.keys()]) {
      if (!controllers.some(c => c.name === name)) {
        chosen.delete(name);
        $("alert").textContent = `The server has no controller '${name}'.`;
      }
    }
    showControllers();
  }

  function showControllers() {
    $("no-controllers").hidden = controllers.length > 0;
    $("controllers").replaceChildren(...controllers.map(controller => {
      const { name } = controller;
      const row = element("div", { className: "controller" });
      const on = element("input", { type: "checkbox", checked: chosen.has(name) });
      const label = element("label", {}, on, ` ${name}`);
      const number = element("input", { type: "number", step: "0.05", value: chosen.get(name) ?? 1, disabled: !on.checked });
      number.setAttribute("aria-label", `λ of ${name}`);
      const slider = element("input", { type: "range", min: -4, max: 4, step: 0.05, value: number.value, disabled: !on.checked });
      slider.setAttribute("aria-label", `λ of ${name}`);
      slider.dataset.controller = name;
      const details = element("button", { type: "button", textContent: "Certificate" });
      details.setAttribute("aria-label", `Certificate of ${name}`);
      on.addEventListener("change", () => {
        number.disabled = slider.disabled = !on.checked;
        if (on.checked) chosen.set(name, Number(number.value)); else chosen.delete(name);
        move(); // a controller that is switched off while it steers gets λ 0
      });
      const set = (value, other) => {
        if (!Number.isFinite(value)) return;
        other.value = value;
        chosen.set(name, value);
        move();
      };
      slider.addEventListener("input", () => set(slider.valueAsNumber, number));
      number.addEventListener("input", () => set(number.valueAsNumber, slider));
      details.addEventListener("click", () => showDetails(name).catch(tell));
      row.append(label, number, details, slider);
      return row;
    }));
  }

  const inspect = async name => (await (await call(`v1/controllers/${encodeURIComponent(name)}`)).json()).inspect;

  async function showDetails(name) {
    const { certificate, ...rest } = await inspect(name);
    $("details-title").textContent = certificate ? `${name}, with its certificate` : `${name}: it has no certificate`;
    $("details-body").replaceChildren(...(certificate ? certificateOf(certificate) : []), tableOf(rest));
    $("details").showModal();
    drawCertificates();
  }

  // The informative figures are the number of held-out prompts inside the bound, and the looseness of the bound. The caller draws the plot when it
  // is visible.
  function certificateOf(certificate) {
    const { heldOut, inside, looseness, first, contraction, propagation, curvature, error, bound } = certificate;
    const told = `${inside} of ${heldOut} held-out prompts are inside the bound, which is `
      + `${looseness === null ? "any number of" : figure(looseness)} times the error after the last block.`;
    const plot = element("canvas", { className: "certificate", width: 800, height: 160 });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Error and bound by layer: ${told}`);
    plotted.set(plot, certificate);
    return [
      element("p", { textContent: told }),
      plot,
      element("p", { className: "hint" }),
      tableOf(propagation.map((value, k) => ({
        before: first + k, contraction: contraction[k], propagation: value, curvature: curvature[k], "mean error": over(error, k),
        "mean bound": over(bound, k),
      }))),
    ];
  }

  // Shows any object as a table, and lists of objects as rows.
  function tableOf(value) {
    if (Array.isArray(value) && value.length > 0 && value.every(item => item !== null && typeof item === "object" && !Array.isArray(item))) {
      const names = [...new Set(value.flatMap(Object.keys))];
      return element("table", {}, element("tr", {}, ...names.map(name => element("th", { scope: "col", textContent: name }))),
        ...value.map(item => element("tr", {}, ...names.map(name => element("td", {}, tableOf(item[name] ?? ""))))));
    }
    if (Array.isArray(value)) return document.createTextNode(value.map(figure).join(", "));
    if (value !== null && typeof value === "object") {
      return element("table", {}, ...Object.entries(value).map(([name, item]) =>
        element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", {}, tableOf(item)))));
    }
    return document.createTextNode(figure(value));
  }

  // Changes λ of the running answer. One request is sent at a time, and the last values are always sent.
  let moving = false;
  async function move() {
    if (!running?.id || moving) return;
    moving = true;
    try {
      let sent;
      do {
        const lambdas = Object.fromEntries(running.names.map(name => [name, chosen.get(name) ?? 0]));
        sent = JSON.stringify(lambdas);
        if (sent === running.lambdas || running.names.length === 0) break;
        await call(`v1/steering/${running.id}`, { method: "PATCH", json: { controllers: lambdas } });
        if (!running) break;
        running.lambdas = sent;
        moves.push(steps.length);
        draw();
      } while (running);
    } catch (error) {
      if (error.code !== "response_not_found") tell(error); // the answer has just ended
    } finally {
      moving = false;
    }
  }

  // ---- An answer. ----

  function request() {
    const isChat = $("setting").mode.value === "chat";
    const body = {
      model: model.id, stream: true, stream_options: { include_usage: true }, max_tokens: $("max-tokens").valueAsNumber || undefined,
      temperature: Number.isFinite($("temperature").valueAsNumber) ? $("temperature").valueAsNumber : undefined,
      seed: Number.isFinite($("seed").valueAsNumber) ? $("seed").valueAsNumber : undefined,
    };
    if (isChat) {
      const system = $("system").value.trim() === "" ? [] : [{ role: "system", content: $("system").value }];
      body.messages = [...system, ...chat, { role: "user", content: $("prompt").value }];
    } else {
      body.prompt = $("prompt").value;
    }
    if (chosen.size > 0) {
      body.steering = {
        controllers: [...chosen].map(([name, lambda]) => ({ name, lambda })), tokens: $("tokens").value, telemetry: "layers",
        compare: $("compare").checked, layers: $("layers").value.trim() || undefined,
        max_effort: $("max-effort").valueAsNumber > 0 ? $("max-effort").valueAsNumber : undefined,
      };
    }
    return { isChat, body };
  }

  async function run() {
    running?.abort.abort();
    $("alert").textContent = "";
    const { isChat, body } = request();
    const mine = running = { id: null, abort: new AbortController(), names: [...chosen.keys()], lambdas: null };
    mine.lambdas = JSON.stringify(Object.fromEntries(chosen));
    const isSteered = body.steering !== undefined, compares = isSteered && body.steering.compare;
    const panes = compares ? ["plain", "steered"] : [isSteered ? "steered" : "plain"];
    $("texts").className = compares ? "" : "single";
    $("plain-pane").hidden = !panes.includes("plain");
    $("steered-pane").hidden = !panes.includes("steered");
    $("plots").hidden = !isSteered;
    [steps, moves, cursor, bound] = [[], [], null, body.steering?.max_effort ?? null];
    const texts = panes.map(() => "");
    for (const pane of panes) {
      $(pane).replaceChildren(isChat ? "" : element("span", { className: "prompt", textContent: body.prompt }));
      $(pane).setAttribute("aria-busy", "true");
    }
    setRunning(true);
    $("status").textContent = "generating …";
    try {
      const response = await call(isChat ? "v1/chat/completions" : "v1/completions", { json: body, signal: mine.abort.signal });
      for await (const { data } of events(response)) {
        if (data.error) throw new Error(data.error.message);
        if (running !== mine) return;
        mine.id = data.id;
        if (data.usage) showUsage(data.usage);
        for (const choice of data.choices) {
          const text = choice.delta?.content ?? choice.text ?? "";
          texts[choice.index] += text;
          if (text) $(panes[choice.index]).append(text);
          if (choice.steering) {
            steps.push({ text, ...choice.steering });
            schedule();
          }
        }
        move(); // sends what was changed before the id was known
      }
      if (isChat) {
        chat.push({ role: "user", content: $("prompt").value }, { role: "assistant", content: texts.at(-1) });
        $("prompt").value = "";
        showChat();
      }
    } catch (error) {
      tell(error);
    } finally {
      if (running === mine) {
        running = null;
        setRunning(false);
        for (const pane of panes) $(pane).removeAttribute("aria-busy");
        draw();
        showFigures();
      }
    }
  }

  function setRunning(is) {
    $("stop").disabled = !is;
    if (!is && $("status").textContent === "generating …") $("status").textContent = "stopped";
  }

  function showUsage(usage) {
    const steering = usage.steering;
    $("status").textContent = `${usage.completion_tokens} tokens` + (steering
      ? `; mean error ${figure(steering.error.mean)}, mean effort ${figure(100 * steering.effort)} %, ${steering.bounded_tokens} at the bound` : "");
  }

  function showChat() {
    $("conversation").replaceChildren(...chat.map(message =>
      element("p", {}, element("strong", { textContent: `${message.role}: ` }), message.content)));
  }

  // ---- Plots. ----

  let scheduled = false;
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => {
      scheduled = false;
      draw();
      drawCertificates();
    });
  }

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function surface(canvas) {
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, Number(canvas.dataset.height ??= canvas.getAttribute("height"))];
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width, height };
  }

  // The mean over the steered layers.
  const effortOf = step => mean(step.effort.filter((_, k) => step.input[k] > 0));
  // |u| ≤ bound means |u|/|x| ≤ bound/|x|, where |x| = |u| / (|u|/|x|).
  const boundOf = step => (bound === null
    ? null
    : mean(step.effort.map((e, k) => (step.input[k] > 0 ? bound * e / step.input[k] : null)).filter(e => e !== null)));
  const mean = values => (values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length);
  const over = (runs, k) => mean(runs.map(run => run[k]));

  function draw() {
    if ($("plots").hidden || steps.length === 0) return;
    drawErrors();
    drawEfforts();
  }

  const columns = () => Math.max(steps.length, 40);

  function drawErrors() {
    const { context, width, height } = surface($("errors"));
    const layers = steps[0].error.length, w = width / columns(), h = height / layers;
    const largest = Math.max(...steps.flatMap(step => step.error.map(e => Math.abs(e ?? 0))), 1e-12);
    steps.forEach((step, t) => step.error.forEach((e, k) => {
      if (e === null) return;
      // Positive errors have one hue and negative errors the other. The larger the error, the more opaque the colour.
      context.globalAlpha = 0.08 + 0.92 * Math.abs(e) / largest;
      context.fillStyle = colour(e > 0 ? "--accent" : "--warm");
      context.fillRect(t * w, height - (k + 1) * h, Math.ceil(w), Math.ceil(h));
    }));
    context.globalAlpha = 1;
    drawMoves(context, w, height);
    if (cursor) {
      context.strokeStyle = colour("--ink");
      context.lineWidth = 2;
      context.strokeRect(cursor.token * w, height - (cursor.layer + 1) * h, w, h);
    } else {
      $("errors-told").textContent = `${steps.length} tokens by ${layers} layers, layer 0 at the bottom; largest |β − v·x|: ${figure(largest)}. `
        + "The arrow keys select a cell.";
    }
  }

  function drawEfforts() {
    const { context, width, height } = surface($("efforts"));
    const w = width / columns(), efforts = steps.map(effortOf), bounds = steps.map(boundOf);
    const top = 1.1 * Math.max(...efforts, ...bounds.map(b => b ?? 0), 1e-12);
    const at = (value, t) => (value === null ? null : [(t + 0.5) * w, height * (1 - value / top)]);
    line(context, efforts.map(at), "--accent");
    line(context, bounds.map(at), "--alarm", { dash: [6, 4] });
    drawMoves(context, w, height);
    $("efforts-told").textContent = "Mean over the steered layers; "
      + `last token ${figure(100 * efforts.at(-1))} %, top of the plot ${figure(100 * top)} %. `
      + "Dashed line: the bound. Vertical line: λ was changed.";
  }

  // A line through the points that there are.
  function line(context, points, name, { dash = [], width = 2, opacity = 1 } = {}) {
    context.strokeStyle = colour(name);
    context.lineWidth = width;
    context.globalAlpha = opacity;
    context.setLineDash(dash);
    context.beginPath();
    for (const point of points) if (point) context.lineTo(...point);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  const plotted = new WeakMap(); // the certificate of each canvas that shows one
  function drawCertificates() {
    for (const canvas of document.querySelectorAll("canvas.certificate")) if (canvas.clientWidth > 0) drawCertificate(canvas);
  }

  // A bound may be many times its error, so the scale is logarithmic.
  function drawCertificate(canvas) {
    const { first, error, bound } = plotted.get(canvas), { context, width, height } = surface(canvas);
    const logs = [...error, ...bound].flat().filter(value => value > 0).map(Math.log);
    const lowest = logs.reduce((least, value) => Math.min(least, value), logs[0] ?? 0);
    const range = Math.max(logs.reduce((most, value) => Math.max(most, value), lowest) - lowest, 1e-12);
    const states = error[0].length, margin = 4;
    const points = values => values.map((value, k) => (value > 0
      ? [margin + k * (width - 2 * margin) / Math.max(states - 1, 1), margin + (height - 2 * margin) * (1 - (Math.log(value) - lowest) / range)]
      : null));
    error.forEach((run, i) => line(context, points(run), run.some((value, k) => value > bound[i][k]) ? "--warm" : "--accent",
      { width: 1, opacity: 0.4 }));
    line(context, points(error[0].map((_, k) => over(error, k))), "--accent");
    line(context, points(bound[0].map((_, k) => over(bound, k))), "--alarm", { dash: [6, 4] });
    canvas.nextElementSibling.textContent = `Errors of the prompts and their mean before layers ${first} to ${first + states - 1}; dashed line: the mean `
      + `bound. The scale is logarithmic, from ${figure(Math.exp(lowest))} to ${figure(Math.exp(lowest + range))}.`;
  }

  function drawMoves(context, w, height) {
    context.strokeStyle = colour("--ink");
    context.lineWidth = 1;
    for (const t of moves) {
      context.beginPath();
      context.moveTo(t * w, 0);
      context.lineTo(t * w, height);
      context.stroke();
    }
  }

  function showCell(token, layer) {
    const layers = steps[0].error.length;
    cursor = { token: Math.min(Math.max(token, 0), steps.length - 1), layer: Math.min(Math.max(layer, 0), layers - 1) };
    const step = steps[cursor.token], error = step.error[cursor.layer];
    $("errors-told").textContent = `Token ${cursor.token + 1} “${step.text}”, layer ${cursor.layer}: `
      + `β − v·x ${error === null ? "is not measured" : figure(error)}, |u|/|x| ${figure(100 * step.effort[cursor.layer])} %`;
    draw();
  }

  function showFigures() {
    $("figures").tBodies[0].replaceChildren(...steps.map((step, t) => {
      const largest = step.error.reduce((best, e, k) => (e !== null && (best < 0 || Math.abs(e) > Math.abs(step.error[best])) ? k : best), -1);
      return element("tr", {}, ...[t + 1, step.text, largest < 0 ? "" : largest, largest < 0 ? "" : figure(step.error[largest]),
        `${figure(100 * effortOf(step))} %`].map(value => element("td", { textContent: value })));
    }));
  }

  // ---- A fit. ----

  let fitting = null;
  async function fit() {
    const lines = id => $(id).value.split("\n").map(line => line.trim()).filter(line => line !== "");
    const asked = text => ($("setting").mode.value === "chat" ? [{ role: "user", content: text }] : text);
    const name = $("fit-name").value;
    fitting = { abort: new AbortController(), id: null };
    $("fit-run").disabled = true;
    $("fit-stop").disabled = false;
    $("fit-progress").hidden = false;
    $("fit-certificate").hidden = true;
    $("fit-status").textContent = "fitting …";
    try {
      const response = await call("v1/controllers/fit", {
        signal: fitting.abort.signal,
        json: {
          name, positive: lines("positive").map(asked), negative: lines("negative").map(asked), replace: $("replace").checked,
          certify: lines("certify").length > 0 ? lines("certify").map(asked) : undefined,
        },
      });
      for await (const { name: event, data } of events(response)) {
        if (event === "job") fitting.id = data.id;
        if (event === "error" || data.error) throw new Error((data.error ?? data).message);
        if (event === "progress") {
          $("fit-progress").value = data.total > 0 ? data.done / data.total : 0;
          $("fit-status").textContent = `${data.stage}: ${data.done} of ${data.total}`;
        }
        if (event === "done") {
          chosen.set(name, 1);
          await loadControllers();
          $("fit-status").textContent = `${name} is made, and switched on at λ 1.${await showFitted(name)}`;
        }
      }
    } catch (error) {
      $("fit-status").textContent = error.name === "AbortError" ? "cancelled" : error.message;
    } finally {
      fitting = null;
      $("fit-run").disabled = false;
      $("fit-stop").disabled = true;
      $("fit-progress").hidden = true;
    }
  }

  // Shows the certificate of a new controller, and tells its result; nothing if there is none.
  async function showFitted(name) {
    const { certificate } = await inspect(name);
    if (!certificate) return "";
    $("fit-certificate-title").textContent = `Certificate of ${name}`;
    $("fit-certificate-body").replaceChildren(...certificateOf(certificate));
    $("fit-certificate").hidden = false;
    drawCertificates();
    return ` ${certificate.inside} of ${certificate.heldOut} held-out prompts are inside the bound.`;
  }

  // ---- The settings as a link. ----

  const fields = ["system", "prompt", "tokens", "layers", "max-effort", "temperature", "seed", "max-tokens"];

  function saved() {
    const setting = { mode: $("setting").mode.value, compare: $("compare").checked, controllers: Object.fromEntries(chosen), chat };
    for (const field of fields) setting[field] = $(field).value;
    return setting;
  }

  function link() {
    const bytes = new TextEncoder().encode(JSON.stringify(saved()));
    const text = btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
    return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  // Anybody can write a link: fields of a wrong type are left out.
  function restore() {
    if (location.hash.length < 2) return;
    let setting;
    try {
      const bytes = Uint8Array.from(atob(location.hash.slice(1).replaceAll("-", "+").replaceAll("_", "/")), c => c.charCodeAt(0));
      setting = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      $("alert").textContent = "The link holds no setting that can be read.";
      return;
    }
    for (const field of fields) if (typeof setting[field] === "string") $(field).value = setting[field];
    $("compare").checked = setting.compare === true;
    for (const [name, lambda] of Object.entries(setting.controllers ?? {})) if (Number.isFinite(lambda)) chosen.set(name, lambda);
    if (Array.isArray(setting.chat)) {
      chat = setting.chat.filter(m => typeof m?.role === "string" && typeof m?.content === "string").map(({ role, content }) => ({ role, content }));
    }
    if (setting.mode === "chat" && !chatChoice().disabled) chatChoice().checked = true;
  }

  const chatChoice = () => document.querySelector("input[name=mode][value=chat]");

  function showMode() {
    const isChat = $("setting").mode.value === "chat";
    for (const part of document.querySelectorAll(".chat-only")) part.hidden = !isChat;
    $("prompt-label").textContent = isChat ? "Message" : "Text";
    showChat();
  }

  // ---- Helpers. ----

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const figure = value => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(3) : String(value));

  function listen() {
    $("setting").addEventListener("submit", event => {
      event.preventDefault();
      history.replaceState(null, "", "#" + link());
      run();
    });
    $("stop").addEventListener("click", () => running?.abort.abort());
    $("clear").addEventListener("click", () => {
      chat = [];
      showChat();
    });
    $("link").addEventListener("click", async () => {
      history.replaceState(null, "", "#" + link());
      try {
        await navigator.clipboard.writeText(location.href);
        $("status").textContent = "The link has been copied to the clipboard.";
      } catch {
        $("status").textContent = "The link is in the address bar.";
      }
    });
    $("preset").append(...presets.map((preset, i) => element("option", { value: i, textContent: preset.name })));
    $("preset").addEventListener("change", () => {
      const preset = presets[$("preset").value];
      if (preset.lambda !== undefined) for (const name of chosen.keys()) chosen.set(name, preset.lambda);
      if (preset.lambda !== undefined) $("max-effort").value = preset.maxEffort ?? "";
      showControllers();
      move();
    });
    $("fit").addEventListener("submit", event => {
      event.preventDefault();
      fit();
    });
    $("fit-stop").addEventListener("click", () => fitting?.abort.abort());
    for (const mode of document.querySelectorAll("input[name=mode]")) mode.addEventListener("change", showMode);
    document.addEventListener("keydown", event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("setting").requestSubmit();
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) running?.abort.abort();
    });
    const heat = $("errors");
    heat.addEventListener("keydown", event => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way || steps.length === 0) return;
      event.preventDefault();
      const from = cursor ?? { token: 0, layer: 0 };
      showCell(cursor ? from.token + way[0] : 0, cursor ? from.layer + way[1] : 0);
    });
    heat.addEventListener("pointermove", event => {
      if (steps.length === 0) return;
      const box = heat.getBoundingClientRect(), layers = steps[0].error.length;
      const layer = layers - 1 - Math.floor((event.clientY - box.top) / box.height * layers);
      showCell(Math.floor((event.clientX - box.left) / box.width * columns()), layer);
    });
    heat.addEventListener("blur", () => {
      cursor = null;
      draw();
    });
    addEventListener("resize", schedule);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schedule);
  }

  async function start() {
    listen();
    model = (await (await call("v1/models")).json()).data[0];
    $("model").textContent = `${model.id}, ${model.layers} layers`;
    document.title = `${model.id} · Tiller`;
    try {
      await call("tokenize", { json: { messages: [{ role: "user", content: "Hi" }] } });
      chatChoice().disabled = false;
    } catch (error) {
      $("no-chat").hidden = false;
      if (error.code !== "no_template") tell(error);
    }
    restore();
    showMode();
    await loadControllers();
  }

  start().catch(tell);
})();
