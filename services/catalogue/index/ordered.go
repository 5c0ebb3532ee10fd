package index

import (
	"iter"
	"slices"
	"sort"
)

// blockSize is how many elements a block of an ordered has at most.
const blockSize = 256

// ordered is a set of elements in an order that its user gives. It is a slice cut into blocks, so that an insertion moves few elements
// also in a large set. While an element is in the set, what the order reads of it must not change.
type ordered[T comparable] struct{ blocks [][]T }

// find returns the position of the first element for which before is false. The order must have all others in front of it.
func (o *ordered[T]) find(before func(T) bool) (block, at int) {
	block = sort.Search(len(o.blocks), func(i int) bool { return !before(o.blocks[i][len(o.blocks[i])-1]) })
	if block < len(o.blocks) {
		at = sort.Search(len(o.blocks[block]), func(i int) bool { return !before(o.blocks[block][i]) })
	}
	return block, at
}

func (o *ordered[T]) insert(v T, compare func(a, b T) int) {
	block, at := o.find(func(e T) bool { return compare(e, v) < 0 })
	switch {
	case len(o.blocks) == 0:
		o.blocks = [][]T{{v}}
		return
	case block == len(o.blocks):
		block--
		at = len(o.blocks[block])
	}
	full := slices.Insert(o.blocks[block], at, v)
	if len(full) <= blockSize {
		o.blocks[block] = full
		return
	}
	// Elements are often inserted at the end: then the first block stays nearly full.
	cut := len(full) / 2
	if at == len(full)-1 {
		cut = len(full) - 1
	}
	second := slices.Clone(full[cut:])
	clear(full[cut:])
	o.blocks[block] = full[:cut]
	o.blocks = slices.Insert(o.blocks, block+1, second)
}

// remove removes the element, if the set has it.
func (o *ordered[T]) remove(v T, compare func(a, b T) int) {
	block, at := o.find(func(e T) bool { return compare(e, v) < 0 })
	if block == len(o.blocks) || o.blocks[block][at] != v {
		return
	}
	o.blocks[block] = slices.Delete(o.blocks[block], at, at+1)
	if len(o.blocks[block]) == 0 {
		o.blocks = slices.Delete(o.blocks, block, block+1)
	}
}

// first returns the first element; ok is false if the set is empty.
func (o *ordered[T]) first() (v T, ok bool) {
	if len(o.blocks) == 0 {
		return v, false
	}
	return o.blocks[0][0], true
}

// from returns the elements in order, from the first one for which before is false.
func (o *ordered[T]) from(before func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		block, at := o.find(before)
		for ; block < len(o.blocks); block, at = block+1, 0 {
			for _, v := range o.blocks[block][at:] {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// size counts the elements.
func (o *ordered[T]) size() int {
	n := 0
	for _, block := range o.blocks {
		n += len(block)
	}
	return n
}
