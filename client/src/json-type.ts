// Is a type JSON, as the compiler sees it?
//
// A schema whose *input* is not JSON must not compile, at the user's line and with a message that says why. `unknown` and `any` pass:
// what they let through is checked when it is sent.

type Primitive = string | number | boolean | null;

type NotJson =
  bigint | symbol | Date | RegExp | Promise<unknown> | ReadonlyMap<unknown, unknown> | ReadonlySet<unknown> | WeakKeyed | Bytes | Callable;
type WeakKeyed = WeakMap<object, unknown> | WeakSet<object>;
type Bytes = ArrayBufferLike | ArrayBufferView;
type Callable = (...parameters: never[]) => unknown;

/** The type as JSON would hold it: equal to `T` if `T` is JSON, with `never` where it is not. */
export type AsJson<T> = unknown extends T
  ? T
  : T extends Primitive | undefined
    ? T
    : T extends NotJson
      ? never
      : T extends readonly (infer Item)[]
        ? // `unknown` items pass; undefined among known ones does not.
          readonly AsJson<unknown extends Item ? Item : Exclude<Item, undefined>>[]
        : { [Key in keyof T]: AsJson<T[Key]> };

/** `unknown` if `Input` is JSON, else a type that nothing satisfies and whose name says why. */
export type MustBeJson<Input> = unknown extends Input
  ? unknown
  : [Input] extends [AsJson<Exclude<Input, undefined>>]
    ? unknown
    : {
        readonly "the input of this schema is not JSON (undefined, Date, bigint, Map, Set, function, …); parse it from JSON, as in z.string().transform(…)": never;
      };
