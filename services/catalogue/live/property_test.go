package live

import (
	"errors"
	"slices"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// Whatever is added, and whenever a client reads, loses its stream and continues: it gets all updates of its shows after its last
// event, each once and in order, or it learns that it cannot (a reset, or the end of the stream).
func TestHub_NoUpdateIsMissedOrRepeated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := New(Options{History: rapid.IntRange(1, 12).Draw(t, "history")})
		batch := uint64(1)
		h.Reset(epoch, batch)
		var all []index.Update
		type reader struct {
			stream *stream
			shows  []id.Show
			last   index.Position // of the last event
		}
		// due returns the ids of the updates that a reader is to get.
		due := func(r *reader) (ids []string) {
			for _, u := range all {
				if slices.Contains(r.shows, u.Show) && u.Position.Compare(r.last) > 0 {
					ids = append(ids, u.Position.Format(epoch))
				}
			}
			return ids
		}
		idsOf := func(frames [][]byte) (ids []string) {
			for _, f := range frames {
				var text string
				for _, b := range f[len("id: "):] {
					if b == '\n' {
						break
					}
					text += string(b)
				}
				ids = append(ids, text)
			}
			return ids
		}
		readers := make([]*reader, 3)
		begin := func(r *reader) {
			s, err := h.open(r.shows, nil)
			require.NoError(t, err)
			r.stream, r.last = s, h.current
		}
		for i := range readers {
			readers[i] = &reader{shows: rapid.SliceOfNDistinct(rapid.SampledFrom([]id.Show{show(1), show(2), show(3)}), 1, 3, rapid.ID).Draw(t, "shows")}
			begin(readers[i])
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				batch++
				var updates []index.Update
				for number := range rapid.IntRange(0, 4).Draw(t, "updates") {
					updates = append(updates, sold(show(rapid.IntRange(1, 3).Draw(t, "show")), batch, number))
				}
				h.Add(batch, updates)
				all = append(all, updates...)
			},
			"read": func(t *rapid.T) {
				r := rapid.SampledFrom(readers).Draw(t, "reader")
				want := due(r)
				position, err := r.stream.next()
				if errors.Is(err, errBehind) {
					require.Greater(t, len(all), len(h.ring), "nothing was overwritten yet")
					r.stream.close(err)
					begin(r)
					return
				}
				require.Equal(t, want, idsOf(r.stream.frames))
				_, r.last, err = index.ParsePosition(position)
				require.NoError(t, err)
			},
			"continue": func(t *rapid.T) {
				r := rapid.SampledFrom(readers).Draw(t, "reader")
				r.stream.close(errClientClosed)
				want := due(r)
				_, continues := h.position(r.last.Format(epoch))
				s, err := h.open(r.shows, []string{r.last.Format(epoch)})
				require.NoError(t, err)
				r.stream = s
				if !continues {
					require.Contains(t, string(s.first), "event: reset")
					require.Less(t, r.last.Compare(h.begin), 0)
					r.last = h.current
					return
				}
				_, err = s.next()
				require.NoError(t, err)
				require.Equal(t, want, idsOf(s.frames))
				r.last = h.current
			},
		})
	})
}

// Whatever a client sends: the stream begins, or the problem is the client's.
func FuzzOpen(f *testing.F) {
	f.Add("show="+string(show(1)), "e1-10-0")
	f.Add("show="+string(show(1))+"&show=%30", "e1-10-2147483648")
	f.Add("show=&show", "-1-1")
	f.Add("", "e1-18446744073709551615-1")
	app := fiber.New()
	h := New(Options{})
	h.Reset(epoch, 10)
	h.Add(11, []index.Update{sold(show(1), 11, 0), sold(show(2), 11, 1)})
	f.Fuzz(func(t *testing.T, query, lastEventID string) {
		ctx := &fasthttp.RequestCtx{}
		ctx.Request.URI().SetQueryString(query)
		c := app.AcquireCtx(ctx)
		defer app.ReleaseCtx(c)
		shows, err := showsOf(c)
		if err != nil {
			var p *problem.Error
			require.ErrorAs(t, err, &p)
			require.Equal(t, problem.Invalid, p.Kind)
			return
		}
		s, err := h.open(shows, []string{lastEventID})
		require.NoError(t, err)
		_, err = s.next()
		require.NoError(t, err)
		s.close(errClientClosed)
	})
}
