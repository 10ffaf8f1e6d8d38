// Conditions as sentences one can edit. The definition is the truth: every change is written into it and into the
// field "text" that the form sends. What this editor does not know it shows as text and leaves as it is.
const WINDOWS = ["avg", "min", "max", "sum", "count", "stddev", "delta"];
const DIRECTED = [">", ">=", "<", "<="];
const SEVERITIES = ["critical", "major", "minor", "warning", "info"];
const LEAVES = ["compare", "between", "among", "boolean", "text", "no_data", "expression"];
const DAYS = [1, 2, 3, 4, 5, 6, 7];

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

class Editor {
  constructor(root) {
    this.root = root;
    this.words = JSON.parse(root.dataset.words);
    this.metrics = JSON.parse(root.dataset.metrics);
    this.definition = JSON.parse(root.dataset.definition);
    this.form = root.closest("form");
    const plain = root.parentElement.querySelector(".fw-rule-plain");
    for (const field of plain.querySelectorAll("input, select, textarea")) field.disabled = true;
    root.parentElement.classList.add("fw-rule-on");
    this.text = element("textarea", { name: "text", hidden: true });
    this.form.append(this.text);
    this.side = document.getElementById("rule-trial");
    this.marked = new MutationObserver(() => this.mark());
    if (this.side) this.marked.observe(this.side, { childList: true });
    this.draw();
    this.write();
  }

  write() {
    this.text.value = JSON.stringify(this.definition);
    this.text.dispatchEvent(new Event("input", { bubbles: true }));
  }

  changed(redraw = false) {
    if (redraw) this.draw();
    this.write();
  }

  w(key) {
    return this.words[key] ?? key;
  }

  // The whole ------------------------------------------------------------------------------------------------------

  draw() {
    const focus = document.activeElement?.dataset?.place;
    const { create } = this.definition;
    const present = SEVERITIES.filter((one) => create[one]);
    const missing = SEVERITIES.filter((one) => !create[one]);
    this.root.replaceChildren(
      ...present.map((severity) => this.when(severity)),
      ...(missing.length ? [element("div", { className: "fw-adds mb-3" }, ...missing.map((one) => this.button(`+ ${this.w(one)}`, () => this.addSeverity(one))))] : []),
      this.ending(),
      this.message(),
    );
    if (focus) this.root.querySelector(`[data-place="${CSS.escape(focus)}"]`)?.focus();
    this.mark();
  }

  addSeverity(severity) {
    const { create } = this.definition;
    const like = SEVERITIES.map((one) => create[one]).find(Boolean);
    create[severity] = like ? structuredClone(like) : { condition: this.fresh() };
    this.changed(true);
  }

  when(severity) {
    const rule = this.definition.create[severity];
    const head = element("div", { className: "fw-when-head" }, element("span", { textContent: `${this.w(severity)}: ${this.w("when")}` }));
    if (Object.keys(this.definition.create).length > 1) head.append(this.button(this.w("remove"), () => { delete this.definition.create[severity]; this.changed(true); }, `${this.w("remove")}: ${this.w(severity)}`));
    const box = element("div", { className: "fw-when" }, head, this.node(rule.condition, `create.${severity}.condition`, (next) => { rule.condition = next; }), this.length(rule, `create.${severity}.kind`), this.schedule(rule, `create.${severity}.schedule`));
    box.dataset.severity = severity;
    return box;
  }

  ending() {
    const { definition } = this;
    definition.clear ??= { type: "by_hand" };
    const { clear } = definition;
    const known = ["automatic", "rule", "by_hand", "quiet"].filter((one) => one === clear.type || this.words[`ends_${one}`]);
    const head = element("div", { className: "fw-when-head" }, element("span", { textContent: this.w("ends") }),
      this.choose(known.map((one) => [one, this.w(`ends_${one}`)]), clear.type, (type) => {
        definition.clear = { automatic: () => ({ type }), by_hand: () => ({ type }), quiet: () => ({ type, seconds: 600 }), rule: () => ({ type, condition: this.fresh() }) }[type]();
        this.changed(true);
      }, this.w("ends"), "clear.type"));
    const box = element("div", { className: "fw-when" }, head);
    if (clear.type === "automatic") {
      head.append(element("span", { textContent: this.w("after_calm_of") }), ...this.seconds(clear, "off_delay_s", "clear.off_delay_s"));
    } else if (clear.type === "rule") {
      box.append(this.node(clear.condition, "clear.condition", (next) => { clear.condition = next; }), this.length(clear, "clear.kind"));
    } else if (clear.type === "quiet") {
      head.append(...this.seconds(clear, "seconds", "clear.seconds"));
    } else if (clear.type !== "by_hand") {
      box.append(this.raw(clear, "clear", (next) => { definition.clear = next; }));
    }
    return box;
  }

  message() {
    const input = element("input", { className: "form-control", value: this.definition.message ?? "", maxLength: 500, id: "f-rule-message" });
    input.addEventListener("input", () => { if (input.value) this.definition.message = input.value; else delete this.definition.message; this.write(); });
    return element("div", { className: "fw-field" }, element("label", { className: "form-label", htmlFor: "f-rule-message", textContent: this.w("message") }), input, element("div", { className: "form-hint", textContent: this.w("message_help") }));
  }

  // How long, how often --------------------------------------------------------------------------------------------

  length(holder, place) {
    const kind = holder.kind ?? { type: "simple" };
    const within = kind.type === "repeating" && kind.window_s != null;
    const type = within ? "within" : kind.type;
    const box = element("div", { className: "fw-group-head" });
    if (!["simple", "duration", "repeating"].includes(kind.type)) return this.raw(kind, place, (next) => { holder.kind = next; });
    box.append(this.choose([["simple", this.w("at_once")], ["duration", this.w("for")], ["repeating", this.w("times_in_a_row")], ["within", this.w("times_within")]], type, (next) => {
      holder.kind = { simple: () => undefined, duration: () => ({ type: "duration", seconds: 60 }), repeating: () => ({ type: "repeating", times: 3 }), within: () => ({ type: "repeating", times: 3, window_s: 60 }) }[next]();
      if (!holder.kind) delete holder.kind;
      this.changed(true);
    }, this.w("length"), `${place}.type`));
    if (kind.type === "duration") box.append(...this.seconds(kind, "seconds", `${place}.seconds`));
    if (kind.type === "repeating") box.append(...this.supply(kind, "times", `${place}.times`, { label: "times", metrics: false, whole: true }), element("span", { textContent: this.w("times") }));
    if (within) box.append(element("span", { textContent: this.w("within") }), ...this.seconds(kind, "window_s", `${place}.window_s`));
    return box;
  }

  // A length of time, or the attribute that holds it.
  seconds(holder, field, place) {
    return this.supply(holder, field, place, { label: "length", metrics: false, typed: (value, take) => this.span(value, take, place), tail: this.w("s") });
  }

  // A number, or where it is taken from: another metric, or an attribute with what holds otherwise.
  supply(holder, field, place, { label, metrics = true, typed = null, tail = "", whole = false, optional = false }) {
    const value = holder[field] === undefined ? 0 : holder[field];
    const take = (next) => { if (optional && !next) delete holder[field]; else holder[field] = whole ? Math.round(next) : next; };
    const unit = tail ? [element("span", { textContent: tail })] : [];
    const mode = value === null || typeof value !== "object" ? "a_number" : "attribute" in value ? "attribute" : "other_metric";
    const made = {
      a_number: () => (typed ? typed(value, take) : [this.number(value, take, this.w(label), place)]),
      attribute: () => [this.words_(value.attribute, (name) => { value.attribute = name; }, `${place}.attribute`), element("span", { textContent: this.w("else") }), this.number(value.default, (next) => { value.default = whole ? Math.round(next) : next; }, this.w("else"), `${place}.default`), ...unit],
      other_metric: () => [this.choose(this.metrics.filter((one) => one.kind !== "text").map((one) => [one.key, one.name]), value.metric, (key) => { value.metric = key; this.write(); }, this.w("other_metric"), `${place}.metric`), element("span", { textContent: "+" }), this.number(value.plus ?? 0, (next) => { if (next) value.plus = next; else delete value.plus; }, this.w("plus"), `${place}.plus`)],
    }[mode]();
    const modes = ["a_number", ...(metrics ? ["other_metric"] : []), "attribute"];
    const source = this.choose(modes.map((one) => [one, this.w(one)]), mode, (next) => {
      const number = typeof value === "number" ? value : value?.default ?? 0;
      holder[field] = { a_number: () => number, other_metric: () => ({ metric: this.metrics.find((one) => one.kind !== "text")?.key ?? "" }), attribute: () => ({ attribute: field, default: number }) }[next]();
      this.changed(true);
    }, `${this.w(label)}: ${this.w("limit_is")}`, `${place}.mode`);
    // What is typed reads as the sentence does; where else it may come from waits behind an arrow.
    source.classList.add("fw-source");
    source.title = source.getAttribute("aria-label");
    return [element("span", { className: "fw-supply" }, ...(mode === "attribute" ? [element("span", { textContent: this.w("attribute") })] : []), ...made, source)];
  }

  span(seconds, take, place) {
    const units = [[1, "s"], [60, "min"], [3600, "h"]];
    let [size] = units.findLast(([one]) => seconds >= one && seconds % one === 0) ?? units[0];
    const number = this.number(seconds / size, (value) => take(value * size), this.w("length"), place);
    const unit = this.choose(units.map(([one, word]) => [String(one), this.w(word)]), String(size), (next) => { size = Number(next); take(Number(number.value || 0) * size); this.write(); }, this.w("unit"), `${place}.unit`);
    return [number, unit];
  }

  // When it is in force: windows of the week by the clock of the site.
  schedule(rule, place) {
    const { schedule } = rule;
    if (!schedule) return element("div", { className: "fw-adds" }, this.button(this.w("add_times"), () => { rule.schedule = { type: "weekly", windows: [{ start: "08:00", end: "18:00", days: [1, 2, 3, 4, 5] }] }; this.changed(true); }));
    const isPlain = schedule.type === "weekly" && !schedule.exceptions?.length && !schedule.workdays?.length && !schedule.holidays?.length;
    const drop = () => { delete rule.schedule; this.changed(true); };
    if (!isPlain) return this.raw(schedule, place, (next) => { rule.schedule = next; }, drop);
    schedule.windows ??= [];
    const rows = schedule.windows.map((window, index) => {
      const days = window.days ?? DAYS;
      const boxes = DAYS.map((day) => {
        const box = element("input", { type: "checkbox", className: "form-check-input", checked: days.includes(day) });
        box.addEventListener("change", (event) => {
          event.stopPropagation();
          const next = DAYS.filter((one) => (one === day ? box.checked : (window.days ?? DAYS).includes(one)));
          if (next.length) window.days = next;
          else box.checked = true;
          this.write();
        });
        return element("label", { className: "fw-day" }, box, this.w(`day_${day}`));
      });
      const time = (name) => {
        const input = element("input", { type: "time", className: "form-control fw-clock", value: window[name] });
        input.setAttribute("aria-label", this.w(name === "start" ? "from" : "to"));
        input.addEventListener("change", (event) => { event.stopPropagation(); if (input.value) { window[name] = input.value; this.write(); } });
        return input;
      };
      return element("div", { className: "fw-ask" }, ...boxes, time("start"), element("span", { textContent: "–" }), time("end"),
        this.button("×", () => { schedule.windows.splice(index, 1); if (schedule.windows.length) this.changed(true); else drop(); }, this.w("remove")));
    });
    return element("div", { className: "fw-group" }, element("span", { className: "text-secondary", textContent: this.w("only_at") }), ...rows,
      element("div", { className: "fw-adds" }, this.button(this.w("add_window"), () => { schedule.windows.push({ start: "22:00", end: "06:00", days: [...DAYS] }); this.changed(true); })));
  }

  // Conditions -----------------------------------------------------------------------------------------------------

  fresh() {
    const metric = this.metrics.find((one) => one.kind !== "text") ?? this.metrics[0];
    return { type: "compare", metric: metric?.key ?? "", operator: ">=", limit: 0 };
  }

  formula() {
    return { type: "expression", formula: this.fresh().metric };
  }

  node(node, place, replace, remove = null) {
    if (node.type === "all" || node.type === "any") return this.group(node, place, replace, remove);
    if (node.type === "not" && (node.of.type === "all" || node.of.type === "any")) return this.group(node.of, `${place}.of`, (next) => { node.of = next; }, remove, { node, replace });
    const row = this.isKnown(node) ? this.ask(node, place, replace, remove) : this.raw(node, place, replace, remove);
    if (remove) return row;
    const join = (type) => { replace({ type, of: [node, this.fresh()] }); this.changed(true); };
    return element("div", { className: "fw-group" }, row, element("div", { className: "fw-adds" }, this.button(this.w("and"), () => join("all")), this.button(this.w("or"), () => join("any")), ...(node.type === "expression" ? [] : [this.button(this.w("as_expression"), () => { replace(this.formula()); this.changed(true); })])));
  }

  group(group, place, replace, remove, negated = null) {
    const type = negated ? `not_${group.type}` : group.type;
    const head = element("div", { className: "fw-group-head" }, this.choose(["all", "any", "not_all", "not_any"].map((one) => [one, this.w(`group_${one}`)]), type, (next) => {
      group.type = next.replace("not_", "");
      const whole = negated ? negated.replace : replace;
      whole(next.startsWith("not_") ? { type: "not", of: group } : group);
      this.changed(true);
    }, this.w("group"), `${place}.type`));
    if (remove) head.append(this.button(this.w("remove"), remove));
    const parts = group.of.map((part, index) => this.node(part, `${place}.of.${index}`, (next) => { group.of[index] = next; }, () => {
      group.of.splice(index, 1);
      if (group.of.length === 1) (negated ? (next) => negated.replace({ type: "not", of: next }) : replace)(group.of[0]);
      this.changed(true);
    }));
    const add = (made) => { group.of.push(made); this.changed(true); };
    return element("div", { className: "fw-group" }, head, ...parts, element("div", { className: "fw-adds" },
      this.button(this.w("add_condition"), () => add(this.fresh())),
      this.button(this.w("add_expression"), () => add(this.formula())),
      this.button(this.w("add_group"), () => add({ type: group.type === "all" ? "any" : "all", of: [this.fresh(), this.fresh()] }))));
  }

  isKnown(node) {
    if (!LEAVES.includes(node.type)) return false;
    const { limit, view } = node;
    if (node.type === "expression") return !Object.keys(node.assets ?? {}).length && !Object.keys(node.constants ?? {}).length;
    if (node.type === "no_data") return node.of === undefined || node.of === "metric";
    const plainLimit = node.type !== "compare" || typeof limit === "number" || limit === null || typeof limit === "object";
    return plainLimit && (!view || ["previous", "difference", "rate", "window"].includes(view.type));
  }

  ask(node, place, replace, remove) {
    const metric = this.metrics.find((one) => one.key === node.metric);
    const row = element("div", { className: "fw-ask" });
    row.dataset.ask = place;
    if (node.type === "expression") {
      const typed = this.words_(node.formula, (value) => { node.formula = value; }, `${place}.formula`);
      typed.classList.add("fw-formula");
      typed.setAttribute("aria-label", this.w("expression"));
      row.append(typed, this.button("×", remove ?? (() => { replace(this.fresh()); this.changed(true); }), this.w("remove")), element("span", { className: "text-secondary fw-formula-help", textContent: this.w("expression_help") }));
      return row;
    }
    const isText = node.type === "text";
    row.append(this.choose([...(metric ? [] : [[node.metric ?? "", node.metric || this.w("choose")]]), ...this.metrics.map((one) => [one.key, one.name])], node.metric ?? "", (key) => {
      const next = this.metrics.find((one) => one.key === key);
      if (next && (next.kind === "text") !== isText) replace(next.kind === "text" ? { type: "text", metric: key, operator: "is", value: "" } : { ...this.fresh(), metric: key });
      else node.metric = key;
      this.changed(true);
    }, this.w("metric"), `${place}.metric`));
    if (["compare", "between", "among"].includes(node.type)) row.append(...this.view(node, place));
    row.append(this.question(node, metric, place, replace), ...this.answer(node, metric, place));
    row.append(this.button("×", remove ?? (() => { replace(this.fresh()); this.changed(true); }), this.w("remove")));
    return row;
  }

  view(node, place) {
    const view = node.view ?? { type: "value" };
    const now = view.type === "window" ? view.function : view.type;
    const options = ["value", "previous", "difference", "rate", ...WINDOWS].map((one) => [one, this.w(`view_${one}`)]);
    const made = [this.choose(options, now, (next) => {
      if (next === "value") delete node.view;
      else node.view = WINDOWS.includes(next) ? { type: "window", function: next, ...(view.samples ? { samples: view.samples } : { seconds: view.seconds ?? 600 }) } : { type: next };
      this.changed(true);
    }, this.w("looked_at"), `${place}.view`)];
    if (view.type === "window") {
      const bySamples = view.samples != null;
      made.push(element("span", { textContent: this.w("over") }));
      if (bySamples) made.push(this.number(view.samples, (value) => { view.samples = Math.max(1, Math.round(value)); }, this.w("samples"), `${place}.view.samples`));
      else made.push(...this.span(view.seconds, (value) => { view.seconds = value; }, `${place}.view.seconds`));
      made.push(this.button(this.w(bySamples ? "by_time" : "by_samples"), () => {
        node.view = { type: "window", function: view.function, ...(bySamples ? { seconds: 600 } : { samples: 10 }) };
        this.changed(true);
      }));
    }
    return made;
  }

  question(node, metric, place, replace) {
    const numeric = [...DIRECTED, "=", "!="].map((one) => [one, this.w(one)]).concat([["between", this.w("between")], ["in", this.w("in")], ["not_in", this.w("not_in")], ["no_data", this.w("no_data")]]);
    const boolean = [["true", this.w("is_true")], ["false", this.w("is_false")]];
    const textual = ["is", "is_not", "starts", "ends", "contains", "not_contains", "in", "not_in"].map((one) => [`text_${one}`, this.w(`text_${one}`)]);
    const options = node.type === "text" ? textual : metric?.kind === "state" || node.type === "boolean" ? [...boolean, ...numeric] : numeric;
    const now = { compare: () => node.operator, between: () => "between", among: () => node.operator, boolean: () => String(node.value === (node.operator === "is")), text: () => `text_${node.operator}`, no_data: () => "no_data" }[node.type]();
    return this.choose(options, now, (next) => {
      const base = { metric: node.metric, ...(node.view ? { view: node.view } : {}) };
      const limit = [node.limit, node.low, node.values?.[0]].find((one) => typeof one === "number") ?? 0;
      if (next === "true" || next === "false") replace({ type: "boolean", metric: node.metric, operator: "is", value: next === "true" });
      else if (next === "no_data") replace({ type: "no_data", seconds: 600, metric: node.metric });
      else if (next === "between") replace({ type: "between", ...base, low: limit, high: limit });
      else if (next === "in" || next === "not_in") replace({ type: "among", ...base, operator: next, values: [limit] });
      else if (next.startsWith("text_")) {
        const operator = next.slice(5);
        const isList = operator === "in" || operator === "not_in";
        const words = node.values ?? [node.value ?? ""];
        replace({ type: "text", metric: node.metric, operator, ...(isList ? { values: words } : { value: words[0] }), ...(node.ignore_case ? { ignore_case: true } : {}) });
      } else {
        const keep = node.type === "compare" ? { ...node } : { type: "compare", ...base, limit };
        keep.operator = next;
        if (!DIRECTED.includes(next)) delete keep.deadband;
        else delete keep.tolerance;
        replace(keep);
      }
      this.changed(true);
    }, this.w("comparison"), `${place}.operator`);
  }

  answer(node, metric, place) {
    const unit = metric?.unit ? [element("span", { className: "text-secondary", textContent: metric.unit })] : [];
    if (node.type === "text") return [node.values ? this.list(node.values, (words) => { node.values = words; }, (word) => word, `${place}.values`) : this.words_(node.value, (value) => { node.value = value; }, `${place}.value`)];
    if (node.type === "boolean") return [];
    if (node.type === "no_data") return this.seconds(node, "seconds", `${place}.seconds`);
    if (node.type === "among") return [this.list(node.values, (values) => { node.values = values; }, Number, `${place}.values`), ...unit];
    const band = (word) => [element("span", { className: "text-secondary", textContent: this.w(word) }), ...(word === "tolerance" ? [this.number(node.tolerance ?? 0, (value) => { if (value) node.tolerance = value; else delete node.tolerance; }, this.w(word), `${place}.tolerance`)] : this.supply(node, word, `${place}.${word}`, { label: word, optional: true }))];
    if (node.type === "between") return [...this.supply(node, "low", `${place}.low`, { label: "from" }), element("span", { textContent: this.w("to") }), ...this.supply(node, "high", `${place}.high`, { label: "to" }), ...unit, ...band("deadband")];
    return [...this.supply(node, "limit", `${place}.limit`, { label: "limit" }), ...unit, ...band(DIRECTED.includes(node.operator) ? "deadband" : "tolerance")];
  }

  // Parts ----------------------------------------------------------------------------------------------------------

  raw(node, place, replace, remove = null) {
    const area = element("textarea", { className: "form-control", rows: 4, spellcheck: false, value: JSON.stringify(node, null, 1) });
    area.setAttribute("aria-label", place);
    area.addEventListener("input", () => {
      try {
        replace(JSON.parse(area.value));
        area.classList.remove("is-invalid");
        this.write();
      } catch {
        area.classList.add("is-invalid");
      }
    });
    const row = element("div", { className: "fw-ask" }, area);
    row.dataset.ask = place;
    if (remove) row.append(this.button("×", remove, this.w("remove")));
    return row;
  }

  button(text, act, label = "") {
    const made = element("button", { type: "button", className: "btn btn-sm", textContent: text });
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  choose(options, value, take, label, place) {
    const made = element("select", { className: "form-select" }, ...options.map(([key, name]) => element("option", { value: key, textContent: name, selected: key === value })));
    made.setAttribute("aria-label", label);
    made.dataset.place = place;
    made.addEventListener("change", (event) => { event.stopPropagation(); take(made.value); });
    return made;
  }

  number(value, take, label, place) {
    const made = element("input", { className: "form-control fw-n", inputMode: "decimal", value: value ?? "" });
    made.setAttribute("aria-label", label);
    made.dataset.place = place;
    made.addEventListener("input", (event) => {
      event.stopPropagation();
      const read = Number(made.value.replace(",", "."));
      const isGood = made.value.trim() !== "" && Number.isFinite(read);
      made.classList.toggle("is-invalid", !isGood);
      if (isGood) { take(read); this.write(); }
    });
    made.addEventListener("change", (event) => event.stopPropagation());
    return made;
  }

  words_(value, take, place) {
    const made = element("input", { className: "form-control fw-t", value: value ?? "", maxLength: 1000 });
    made.setAttribute("aria-label", this.w("text"));
    made.dataset.place = place;
    made.addEventListener("input", (event) => { event.stopPropagation(); take(made.value); this.write(); });
    made.addEventListener("change", (event) => event.stopPropagation());
    return made;
  }

  list(values, take, read, place) {
    const made = this.words_(values.join(", "), (typed) => {
      const parts = typed.split(/[,，、;]/).map((one) => one.trim()).filter(Boolean).map(read);
      if (parts.length && parts.every((one) => typeof one === "string" || Number.isFinite(one))) take(parts);
    }, place);
    made.setAttribute("aria-label", this.w("list"));
    return made;
  }

  mark() {
    const places = JSON.parse(this.side?.querySelector("[data-problems]")?.dataset.problems ?? "[]");
    for (const row of this.root.querySelectorAll("[data-ask]")) row.classList.toggle("has-problem", places.some((one) => one === row.dataset.ask || one.startsWith(`${row.dataset.ask}.`)));
  }
}

export function attach(root) {
  const editor = new Editor(root);
  return () => editor.marked.disconnect();
}
