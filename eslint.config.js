// Which mistakes does the machine find, so that reviewers need not? Types make most rules: a promise nobody waits for, a case nobody handles.
// Layout is prettier's; arrows, names and lengths are test/house.test.ts's. Every ban names its replacement.
import js from "@eslint/js";
import tseslint from "typescript-eslint";

const TYPED = ["{client,server,cli,testing}/src/**/*.ts", "examples/*/*.ts", "test/**/*.ts"];
const UNTYPED = ["**/*.{js,mjs,cjs}", "*.ts"];

const NODE_GLOBALS = Object.fromEntries(
  [
    "AbortController",
    "AbortSignal",
    "Buffer",
    "URL",
    "clearInterval",
    "clearTimeout",
    "console",
    "fetch",
    "performance",
    "process",
    "setImmediate",
    "setInterval",
    "setTimeout",
  ].map((name) => [name, "readonly"]),
);

const USE_CLOCK = "use the Clock that was passed in (server/src/clock.ts): tests move it, and it knows the database's time";
const USE_RANDOM = "take the random value as an argument, or `chance` of the Clock (server/src/clock.ts), so that tests can choose it";

/** In the server only clock.ts knows what time it is. `setImmediate` is no time: it is the end of this turn of the event loop. */
const TIME_AND_CHANCE = {
  "no-restricted-globals": [
    "error",
    ...["setTimeout", "setInterval", "performance"].map((name) => ({ name, message: `Not ${name}: ${USE_CLOCK}.` })),
    { name: "globalThis", message: `Not globalThis: name what you need; for time ${USE_CLOCK}.` },
  ],
  "no-restricted-properties": [
    "error",
    { object: "Date", property: "now", message: `Not Date.now: ${USE_CLOCK}.` },
    { object: "process", property: "hrtime", message: `Not process.hrtime: ${USE_CLOCK}.` },
    { object: "process", property: "uptime", message: `Not process.uptime: ${USE_CLOCK}.` },
    { object: "Math", property: "random", message: `Not Math.random: ${USE_RANDOM}.` },
  ],
  "no-restricted-syntax": [
    "error",
    { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: `Not new Date(): ${USE_CLOCK}.` },
    { selector: "CallExpression[callee.name='Date']", message: `Not Date(): ${USE_CLOCK}.` },
    {
      selector: "VariableDeclarator[id.type='Identifier'][init.name=/^(Date|Math)$/]",
      message: "Not Date or Math under another name: time comes from the Clock, chance as an argument.",
    },
  ],
  "no-restricted-imports": [
    "error",
    {
      paths: [
        ...["timers", "node:timers", "timers/promises", "node:timers/promises", "perf_hooks", "node:perf_hooks"].map((name) => ({
          name,
          message: `Not ${name}: ${USE_CLOCK}.`,
        })),
        ...["events", "node:events"].map((name) => ({
          name,
          importNames: ["EventEmitter", "default"],
          message: "No event emitters between parts: pass what a part needs as a plain constructor argument.",
        })),
      ],
    },
  ],
};

export default tseslint.config(
  { ignores: ["**/dist/", "**/node_modules/", "**/.leasehold/", "**/coverage/", "proto/src/", "bench/out/"] },
  { linterOptions: { reportUnusedDisableDirectives: "error", reportUnusedInlineConfigs: "error" } },
  {
    files: TYPED,
    extends: [js.configs.recommended, ...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: ["error", "always"],
      "no-console": ["error"],
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // Numbers, bigints and booleans read well in a template; objects and undefined do not.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: "only-allowed-literals" }],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", caughtErrors: "none" }],
      // An implementation that has nothing to wait for still has the asynchronous signature of its interface.
      "@typescript-eslint/require-await": "off",
    },
  },
  { files: ["server/src/**/*.ts"], ignores: ["server/src/clock.ts"], rules: TIME_AND_CHANCE },
  {
    files: ["client/src/**/*.ts"],
    rules: {
      // The types of the SDK are made of these: a map without codes is `{}`, a handler without a result returns void, and a type parameter may be
      // there only to be inferred and shown.
      "@typescript-eslint/no-empty-object-type": "off",
      "@typescript-eslint/no-invalid-void-type": "off",
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
    },
  },
  { files: ["cli/src/**/*.ts", "examples/*/*.ts"], rules: { "no-console": "off" } },
  {
    files: ["examples/*/*.ts"],
    rules: {
      // Node's test runner waits for its tests itself.
      "@typescript-eslint/no-floating-promises": [
        "error",
        { allowForKnownSafeCalls: [{ from: "package", package: "node:test", name: "test" }] },
      ],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // A test fails on `undefined` by itself, and its assertion says it better than a guard would.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-empty-function": "off",
    },
  },
  {
    files: UNTYPED,
    extends: [js.configs.recommended],
    languageOptions: { parser: tseslint.parser, globals: NODE_GLOBALS },
    rules: { eqeqeq: ["error", "always"] },
  },
);
