/** A growing first-in first-out list with cheap `shift`; its owner bounds it. */
export class Fifo<T> {
  private items: T[] = [];
  private first = 0;

  get length(): number {
    return this.items.length - this.first;
  }

  push(item: T): void {
    this.items.push(item);
  }

  /** The i-th from the front; undefined outside. */
  at(i: number): T | undefined {
    return i < 0 ? undefined : this.items[this.first + i];
  }

  get last(): T | undefined {
    return this.length === 0 ? undefined : this.items[this.items.length - 1];
  }

  shift(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.items[this.first++];
    if (this.first > 64 && this.first * 2 > this.items.length) {
      this.items = this.items.slice(this.first);
      this.first = 0;
    }
    return item;
  }

  clear(): void {
    this.items = [];
    this.first = 0;
  }

  /** Replaces the contents. */
  replace(items: T[]): void {
    this.items = items;
    this.first = 0;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let i = this.first; i < this.items.length; i++) yield this.items[i] as T;
  }

  /**
   * Index of the first item for which `test` holds, all later ones holding too (binary search); `length` if none.
   */
  search(test: (item: T) => boolean): number {
    let lo = 0;
    let hi = this.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (test(this.at(mid) as T)) hi = mid;
      else lo = mid + 1;
    }
    return lo;
  }
}
