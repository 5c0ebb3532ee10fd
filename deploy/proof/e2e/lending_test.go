package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack/stacktest"
)

// lentHouse is a house that a test has for itself and gives back when it ends: with everything running again, and
// without dead letters. Whoever has it next finds what was sold in it before, and what its processes have logged. To
// start a stack takes more of the machine than most of what is done in one. env is what differs from the run file.
func lentHouse(t testing.TB, env map[string]string) *house {
	t.Helper()
	stacktest.SkipIfShort(t)
	h, err := lent.take(env)
	require.NoError(t, err)
	t.Cleanup(func() {
		if !t.Failed() {
			if err := lent.giveBack(h); err != nil {
				t.Errorf("the house is not as it was lent: %v", err)
			}
		}
		if t.Failed() {
			stacktest.ShowLogs(t, h.Stack)
			lent.end(h)
		}
	})
	return h.house
}

// vacancy is how long a house stands empty before it is closed, for an empty one takes from the machine, too.
const vacancy = 2 * time.Second

// lending has the houses that are lent to one test after the other.
type lending struct {
	mu     sync.Mutex
	vacant map[string][]*lentOne // by kind
	errs   []error               // of houses that were closed
	toEnd  sync.WaitGroup        // one for each that is vacant or being closed
}

// lentOne is one of them. Its kind is what differs from the run file.
type lentOne struct {
	*standing
	kind   string
	vacate *time.Timer
}

var lent = &lending{vacant: map[string][]*lentOne{}}

// take opens a house if none of this kind is vacant.
func (l *lending) take(env map[string]string) (*lentOne, error) {
	kind := fmt.Sprint(env)
	l.mu.Lock()
	if all := l.vacant[kind]; len(all) > 0 {
		defer l.mu.Unlock()
		h := all[len(all)-1]
		l.vacant[kind] = all[:len(all)-1]
		h.vacate.Stop()
		l.toEnd.Done()
		return h, nil
	}
	l.mu.Unlock()
	opened, err := open(env)
	return &lentOne{standing: opened, kind: kind}, err
}

// giveBack takes the house from a test. An error says what the test has left behind.
func (l *lending) giveBack(h *lentOne) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := errors.Join(noDeadLetters(h.house), h.WaitReady(ctx)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vacant[h.kind] = append(l.vacant[h.kind], h)
	l.toEnd.Add(1)
	h.vacate = time.AfterFunc(vacancy, func() { l.vacates(h) })
	return nil
}

// vacates closes the house if it is still vacant.
func (l *lending) vacates(h *lentOne) {
	l.mu.Lock()
	all := l.vacant[h.kind]
	place := slices.Index(all, h)
	if place >= 0 {
		l.vacant[h.kind] = slices.Delete(all, place, place+1)
	}
	l.mu.Unlock()
	if place >= 0 {
		l.end(h)
		l.toEnd.Done()
	}
}

// end closes a house that nobody has.
func (l *lending) end(h *lentOne) {
	if err := h.close(); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errs = append(l.errs, fmt.Errorf("a lent house: %w", err))
	}
}

// close closes all that are vacant, and returns what was wrong with those that were closed.
func (l *lending) close() error {
	l.mu.Lock()
	var all []*lentOne
	for _, kind := range l.vacant {
		all = append(all, kind...)
	}
	l.mu.Unlock()
	for _, h := range all {
		l.vacates(h)
	}
	l.toEnd.Wait()
	return errors.Join(l.errs...)
}
