package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// anyDetails draws details that no rule refuses at the time; sometimes with a start that is refused.
func anyDetails(t *rapid.T, now time.Time) Details {
	d := Details{
		Name:     rapid.SampledFrom([]string{"Hamlet", "Lear"}).Draw(t, "name"),
		Venue:    "Globe",
		City:     "London",
		Country:  "GB",
		TimeZone: "Europe/London",
		Category: rapid.SampledFrom(categories).Draw(t, "category"),
		StartsAt: now.Add(time.Duration(rapid.IntRange(-2, 40).Draw(t, "starts in days")) * 24 * time.Hour),
	}
	if rapid.Bool().Draw(t, "capped") {
		d.MaxMarkup = new(rapid.IntRange(0, 2).Draw(t, "markup"))
	}
	return d
}

// After any commands of anybody at any time: a change has the next version and an event with it, a refusal changes nothing, only the
// owner changes anything, and nothing changes a show that is cancelled or has started.
func TestShow_AnyCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		details := anyDetails(t, now)
		details.StartsAt = now.Add(time.Duration(rapid.IntRange(1, 72).Draw(t, "starts in hours")) * time.Hour)
		show, err := Announce("show-1", "owner", details, now)
		require.NoError(t, err)
		published := []events.Payload{show.Event()}

		for range rapid.IntRange(1, 20).Draw(t, "commands") {
			now = now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "hours")) * time.Hour)
			user := rapid.SampledFrom([]id.User{"owner", "owner", "owner", "other"}).Draw(t, "user")
			expected := ExpectedVersion(rapid.SampledFrom([]int{0, show.Version, show.Version - 1, show.Version + 1}).Draw(t, "expected"))
			before := show
			started, cancelled := !now.Before(show.StartsAt), show.Cancelled
			fresh := expected == 0 || int(expected) == show.Version

			var changed bool
			var err error
			command := rapid.SampledFrom([]string{"update", "update", "set image", "remove image", "cancel", "delete account"}).Draw(t, "command")
			switch command {
			case "update":
				changed, err = show.Update(user, expected, anyDetails(t, now), now)
			case "set image":
				image := Image{ID: id.New[ImageID](), Width: 1, Height: 1, Digest: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "content")}
				changed, err = show.SetImage(user, expected, image, now)
			case "remove image":
				changed, err = show.RemoveImage(user, expected, now)
			case "cancel":
				changed, err = show.Cancel(user, expected, now)
			case "delete account":
				user, fresh = "owner", true
				changed = show.CancelWithAccount(now)
			}

			if !changed {
				require.Equal(t, before, show, "a refusal, or a command without an effect, changes nothing")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, id.User("owner"), user)
			require.False(t, started)
			require.False(t, cancelled)
			require.True(t, fresh)
			require.Equal(t, before.Version+1, show.Version)
			require.Equal(t, now, show.UpdatedAt)
			require.Equal(t, before.CreatedAt, show.CreatedAt)
			require.True(t, show.StartsAt.After(now), "a show never moves into the past")
			require.Equal(t, command == "cancel" || command == "delete account", show.Cancelled)
			published = append(published, show.Event())
		}

		for i, event := range published {
			_, version := event.Aggregate()
			require.Equal(t, i+1, version, "each version is published once")
			_, cancelled := event.(events.ShowCancelled)
			require.False(t, cancelled && i < len(published)-1, "nothing follows a cancellation")
		}
		require.IsType(t, events.ShowCreated{}, published[0])
		require.Equal(t, show.Event(), published[len(published)-1], "the last event can be published again")
	})
}
