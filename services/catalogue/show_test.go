package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// hamlet starts in a month.
func hamlet() Details {
	return Details{
		Name: "Hamlet", Venue: "Schaubühne", City: "Berlin", Country: "DE", StartsAt: noon.AddDate(0, 1, 0), TimeZone: "Europe/Berlin",
		Category: "theatre", Description: "In German.\n\nWith surtitles.", MaxMarkup: new(20),
	}
}

func announced(t require.TestingT) Show {
	show, err := Announce("show-1", "owner", hamlet(), noon)
	require.NoError(t, err)
	return show
}

func TestAnnounce_PublishesTheWholeShow(t *testing.T) {
	show := announced(t)
	require.Equal(t, events.ShowCreated{Show: events.Show{
		ID: "show-1", Name: "Hamlet", Venue: "Schaubühne", City: "Berlin", Country: "DE", StartsAt: clock.Stamp(noon.AddDate(0, 1, 0)),
		TimeZone: "Europe/Berlin", Category: "theatre", Description: "In German.\n\nWith surtitles.", MaxMarkup: new(20),
		Status: "scheduled", UserID: "owner", Version: 1, CreatedAt: clock.Stamp(noon), UpdatedAt: clock.Stamp(noon),
	}}, show.Event())
}

func TestAnnounce_TheStartIsInTheNextThreeYears(t *testing.T) {
	for startsAt, want := range map[time.Time]error{
		noon.Add(-time.Hour):                   errPast,
		noon:                                   errPast,
		noon.Add(time.Millisecond):             nil,
		noon.AddDate(3, 0, 0):                  nil,
		noon.AddDate(3, 0, 0).Add(time.Second): errFarAhead,
	} {
		details := hamlet()
		details.StartsAt = startsAt
		_, err := Announce("show-1", "owner", details, noon)
		require.ErrorIs(t, err, want, startsAt)
		show := announced(t)
		_, err = show.Update("owner", 0, details, noon)
		require.ErrorIs(t, err, want, startsAt)
	}
}

func TestUpdate_ReplacesTheDetailsAndKeepsTheImage(t *testing.T) {
	show := announced(t)
	_, err := show.SetImage("owner", 0, Image{ID: "image-1", Width: 1600, Height: 900, Digest: "a"}, noon)
	require.NoError(t, err)
	details := hamlet()
	details.Name, details.Description, details.MaxMarkup = "Lear", "", nil
	changed, err := show.Update("owner", 2, details, noon.Add(time.Hour))
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, details, show.Details)
	event := show.Event().(events.ShowUpdated)
	require.Equal(t, 3, event.Version)
	require.Equal(t, clock.Stamp(noon.Add(time.Hour)), event.UpdatedAt)
	require.Equal(t, &events.ShowImage{URL: "/api/shows/show-1/images/image-1", Width: 1600, Height: 900}, event.Image)
	require.Nil(t, event.MaxMarkup)
}

func TestUpdate_TheSameDetailsChangeNothing(t *testing.T) {
	show := announced(t)
	before := show
	same := hamlet()
	same.StartsAt = same.StartsAt.In(time.FixedZone("", 3600))
	changed, err := show.Update("owner", 1, same, noon.Add(time.Hour))
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, before, show)

	for name, change := range map[string]func(*Details){
		"name":            func(d *Details) { d.Name = "Lear" },
		"start":           func(d *Details) { d.StartsAt = d.StartsAt.Add(time.Millisecond) },
		"another markup":  func(d *Details) { d.MaxMarkup = new(0) },
		"no markup":       func(d *Details) { d.MaxMarkup = nil },
		"another zone":    func(d *Details) { d.TimeZone = "Europe/Paris" },
		"no description":  func(d *Details) { d.Description = "" },
		"another country": func(d *Details) { d.Country = "AT" },
	} {
		show, details := announced(t), hamlet()
		change(&details)
		changed, err := show.Update("owner", 1, details, noon)
		require.NoError(t, err)
		require.True(t, changed, name)
	}
}

func TestCancel_IsFinalAndMayBeRepeated(t *testing.T) {
	show := announced(t)
	changed, err := show.Cancel("owner", 1, noon.Add(time.Hour))
	require.NoError(t, err)
	require.True(t, changed)
	event := show.Event().(events.ShowCancelled)
	require.Equal(t, events.ShowStatusCancelled, event.Status)
	require.Equal(t, 2, event.Version)

	before := show
	for _, later := range []time.Time{noon.Add(time.Hour), noon.AddDate(1, 0, 0)} {
		changed, err = show.Cancel("owner", 1, later)
		require.NoError(t, err, "the first response may be lost")
		require.False(t, changed)
	}
	_, err = show.Cancel("other", 0, noon)
	require.ErrorIs(t, err, errNotYours)
	_, err = show.Update("owner", 0, hamlet(), noon)
	require.ErrorIs(t, err, errCancelled)
	_, err = show.SetImage("owner", 0, Image{Digest: "a"}, noon)
	require.ErrorIs(t, err, errCancelled)
	_, err = show.RemoveImage("owner", 0, noon)
	require.ErrorIs(t, err, errCancelled)
	require.Equal(t, before, show)
}

func TestCancelWithAccount_EndsWhatHasNotStarted(t *testing.T) {
	show := announced(t)
	later := noon.Add(time.Hour)
	require.True(t, show.CancelWithAccount(later))
	event := show.Event().(events.ShowCancelled)
	require.Equal(t, []any{events.ShowStatusCancelled, 2, clock.Stamp(later)}, []any{event.Status, event.Version, event.UpdatedAt})
	before := show
	require.False(t, show.CancelWithAccount(later.Add(time.Hour)))
	require.Equal(t, before, show)

	for _, tt := range []struct {
		name    string
		now     time.Time
		changed bool
	}{
		{"a moment before it starts", hamlet().StartsAt.Add(-time.Millisecond), true},
		{"when it starts", hamlet().StartsAt, false},
		{"after it has started", hamlet().StartsAt.Add(time.Hour), false},
	} {
		show := announced(t)
		require.Equal(t, tt.changed, show.CancelWithAccount(tt.now), tt.name)
		require.Equal(t, tt.changed, show.Cancelled, tt.name)
	}
}

func TestShow_RefusesChanges(t *testing.T) {
	starts := hamlet().StartsAt
	for _, tt := range []struct {
		name     string
		user     id.User
		expected ExpectedVersion
		now      time.Time
		want     error
	}{
		{"of another user", "other", 0, noon, errNotYours},
		{"of another user, with the right version", "other", 1, noon, errNotYours},
		{"based on another version", "owner", 2, noon, errStale},
		{"when it starts", "owner", 1, starts, errStarted},
		{"after it has started", "owner", 0, starts.Add(time.Hour), errStarted},
		{"a moment before it starts: none", "owner", 1, starts.Add(-time.Millisecond), nil},
	} {
		for action, change := range map[string]func(*Show) (bool, error){
			"update": func(s *Show) (bool, error) {
				d := hamlet()
				d.StartsAt = d.StartsAt.AddDate(1, 0, 0)
				return s.Update(tt.user, tt.expected, d, tt.now)
			},
			"cancel":       func(s *Show) (bool, error) { return s.Cancel(tt.user, tt.expected, tt.now) },
			"set image":    func(s *Show) (bool, error) { return s.SetImage(tt.user, tt.expected, Image{Digest: "a"}, tt.now) },
			"remove image": func(s *Show) (bool, error) { return s.RemoveImage(tt.user, tt.expected, tt.now) },
		} {
			show := announced(t)
			before := show
			changed, err := change(&show)
			require.ErrorIs(t, err, tt.want, "%s: %s", tt.name, action)
			if tt.want != nil {
				require.False(t, changed)
				require.Equal(t, before, show)
			}
		}
	}
}

func TestImage_TheSameContentAgainChangesNothing(t *testing.T) {
	show := announced(t)
	changed, err := show.RemoveImage("owner", 0, noon)
	require.NoError(t, err)
	require.False(t, changed, "there is none")
	for _, tt := range []struct {
		image   Image
		changed bool
		now     ImageID
	}{
		{Image{ID: "1", Digest: "a"}, true, "1"},
		{Image{ID: "2", Digest: "a"}, false, "1"},
		{Image{ID: "3", Digest: "b"}, true, "3"},
	} {
		changed, err := show.SetImage("owner", 0, tt.image, noon)
		require.NoError(t, err)
		require.Equal(t, tt.changed, changed)
		require.Equal(t, tt.now, show.Image.ID)
	}
	require.Equal(t, 3, show.Version)
	changed, err = show.RemoveImage("owner", 3, noon)
	require.NoError(t, err)
	require.True(t, changed)
	require.Nil(t, show.Image)
	require.Nil(t, show.Event().(events.ShowUpdated).Image)
}

func TestDetails_RefusesWhatNoShowHas(t *testing.T) {
	require.Nil(t, hamlet().Check())
	for _, tt := range []struct {
		name, field, code string
		change            func(*Details)
	}{
		{"a country that is none", "country", "invalid", func(d *Details) { d.Country = "XX" }},
		{"a country in lower case", "country", "invalid", func(d *Details) { d.Country = "de" }},
		{"a country of three letters", "country", "invalid", func(d *Details) { d.Country = "DEU" }},
		{"no country", "country", "invalid", func(d *Details) { d.Country = "" }},
		{"a zone that is none", "timeZone", "invalid", func(d *Details) { d.TimeZone = "Europe/Atlantis" }},
		{"the zone of the process", "timeZone", "invalid", func(d *Details) { d.TimeZone = "Local" }},
		{"a path", "timeZone", "invalid", func(d *Details) { d.TimeZone = "../../etc/passwd" }},
		{"a path of a zone", "timeZone", "invalid", func(d *Details) { d.TimeZone = "Europe/../Europe/Berlin" }},
		{"a copy of a zone", "timeZone", "invalid", func(d *Details) { d.TimeZone = "posix/Europe/Berlin" }},
		{"no zone", "timeZone", "invalid", func(d *Details) { d.TimeZone = "" }},
		{"a category that is none", "category", "invalid", func(d *Details) { d.Category = "opera" }},
		{"a long description", "description", "max", func(d *Details) { d.Description = strings.Repeat("ö", longestDescription+1) }},
		{"a description with a control character", "description", "printable", func(d *Details) { d.Description = "a\x00b" }},
		{"a description that turns the text", "description", "printable", func(d *Details) { d.Description = "a\u202eb" }},
	} {
		details := hamlet()
		tt.change(&details)
		refused := details.Check()
		require.NotNil(t, refused, tt.name)
		require.Len(t, refused.Details, 1, tt.name)
		require.Equal(t, tt.field, refused.Details[0].Field, tt.name)
		require.Equal(t, tt.code, refused.Details[0].Code, tt.name)
	}
	var fields []string
	for _, detail := range (Details{}).Check().Details {
		fields = append(fields, detail.Field)
	}
	require.Equal(t, []string{"country", "timeZone", "category"}, fields, "all that is wrong")
	require.Equal(t, problem.Invalid, (Details{}).Check().Kind)

	for _, zone := range []string{"UTC", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "Etc/GMT+5", "America/Port-au-Prince"} {
		details := hamlet()
		details.TimeZone, details.Description = zone, strings.Repeat("ö", longestDescription)
		require.Nil(t, details.Check(), zone)
	}
}
