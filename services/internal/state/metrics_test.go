package state

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestMeters_ShowHowFullTheJournalIsAndHowLongEventsWait(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, f := onMemory(t, newMemory(), Options{MaxTransactions: 10, Backlog: 20, Lease: time.Minute, Writers: 1, Metrics: registry})
	values := func() map[string]float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		all := map[string]float64{}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				name := family.GetName()
				for _, label := range metric.GetLabel() {
					name += "/" + label.GetValue()
				}
				all[name] = metric.GetGauge().GetValue()
			}
		}
		return all
	}
	now := values()
	require.EqualValues(t, 10, now["boxoffice_journal_limit/entries"])
	require.EqualValues(t, 20, now["boxoffice_journal_limit/events"])
	require.Zero(t, now["boxoffice_journal_oldest_unpublished_seconds"])

	f.set(func(f *faults) { f.publish = brokerAway })
	began := time.Now()
	for range 4 {
		_, err := emit(t, s)
		require.NoError(t, err)
	}
	soon(t, "the oldest has waited for a while", func() bool {
		now = values()
		return now["boxoffice_journal_oldest_unpublished_seconds"] >= 0.03
	})
	require.EqualValues(t, 4, now["boxoffice_journal_entries"])
	require.EqualValues(t, 4, now["boxoffice_journal_backlog_events"])
	require.LessOrEqual(t, now["boxoffice_journal_oldest_unpublished_seconds"], time.Since(began).Seconds())

	f.set(func(f *faults) { f.publish = nil })
	soon(t, "nothing waits", func() bool {
		now := values()
		return now["boxoffice_journal_entries"] == 0 && now["boxoffice_journal_oldest_unpublished_seconds"] == 0
	})
}
