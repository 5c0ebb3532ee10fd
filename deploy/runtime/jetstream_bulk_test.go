package main

import (
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go/jetstream"
)

type dataMsg struct {
	jetstream.Msg
	data []byte
}

func (m dataMsg) Data() []byte { return m.data }

func TestFilling_ABulkIsDeliveredAtOnceAndTheNextFillsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 8
		waiting := make(chan jetstream.Msg, 2*size)
		send := func(n, bytes int) {
			for range n {
				waiting <- dataMsg{data: make([]byte, bytes)}
			}
			synctest.Wait()
		}
		f := filling{waiting: waiting, size: size, ended: make(chan struct{}, 4)}
		bulks := make(chan int, 10)
		go func() {
			for {
				n := len(f.bulk())
				bulks <- n
				if n == 0 {
					return
				}
			}
		}()
		expect := func(what string, want ...int) {
			t.Helper()
			synctest.Wait()
			for _, n := range want {
				select {
				case got := <-bulks:
					if got != n {
						t.Errorf("%s: a bulk of %d, not %d", what, got, n)
					}
				default:
					t.Errorf("%s: no bulk", what)
				}
			}
			select {
			case got := <-bulks:
				t.Errorf("%s: a bulk of %d too many", what, got)
			default:
			}
		}

		send(1, 1)
		expect("alone", 1)
		send(3, 1)
		expect("fewer than half while another is handled")
		send(1, 1)
		expect("half", 4)
		send(size, 1)
		expect("two are handled")
		f.ended <- struct{}{}
		expect("one has ended", size)
		send(2, 1)
		f.ended <- struct{}{}
		expect("one is still handled")
		f.ended <- struct{}{}
		expect("none is handled", 2)
		f.ended <- struct{}{}
		send(2, maxBulkBytes)
		expect("a bulk has a megabyte at most", 1, 1)
		send(1, 1)
		close(waiting)
		expect("the end", 1, 0)
	})
}
