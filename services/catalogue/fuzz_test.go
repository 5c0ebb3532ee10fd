package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"image/jpeg"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// Whatever is uploaded becomes a JPEG without metadata that is not too long and not too large, or is refused.
func FuzzEncode(f *testing.F) {
	exif := exifWith(binary.BigEndian, 6)
	f.Add(0, withExifInJPEG(jpegOf(f, corners(16, 8)), exif))
	f.Add(1, withExifInPNG(pngOf(f, corners(16, 8)), exif))
	f.Add(2, webPOf(canvas(16, 8), webPChunk{"VP8L", losslessOf(16, 8, red, green, true)}, webPChunk{"EXIF", exif}))
	f.Add(2, webPOf(webPChunk{"VP8L", losslessOf(16384, 16384, red, red, false)}))
	f.Add(0, header(0xc2, 4032, 3024))
	f.Add(0, []byte{})
	f.Fuzz(func(t *testing.T, format int, file []byte) {
		mediaType := mediaTypes[uint(format)%uint(len(mediaTypes))]
		for _, of := range formats {
			value := orientation(of.exif(file))
			require.True(t, 1 <= value && value <= 8)
		}
		if size, err := formats[mediaType].size(file); err != nil || size.bytes > 4_000_000 {
			return // a larger one is slow, and no different
		}
		p, err := encode(Upload{mediaType, file})
		if refused, ok := errors.AsType[*problem.Error](err); ok {
			require.Equal(t, "image_invalid", refused.Details[0].Code)
			return
		}
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.jpeg), maxStored)
		config, err := jpeg.DecodeConfig(bytes.NewReader(p.jpeg))
		require.NoError(t, err)
		require.Equal(t, []int{p.width, p.height}, []int{config.Width, config.Height})
		require.True(t, 1 <= p.width && p.width <= maxSide && 1 <= p.height && p.height <= maxSide)
		require.Nil(t, exifOfJPEG(p.jpeg))
	})
}

// Details are refused, or a show with them is stored and published as they are.
func FuzzDetails(f *testing.F) {
	f.Add(`{"name":"Hamlet","venue":"Globe","city":"London","country":"GB","startsAt":"2027-06-12T20:00:00+01:00","timeZone":"Europe/London","category":"theatre","description":"a\r\nb","maxMarkup":20}`)
	f.Add(`{"country":"xx","startsAt":"0000-00-00","timeZone":"../../etc/passwd","category":""}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, body string) {
		var request detailsRequest
		if json.Unmarshal([]byte(body), &request) != nil {
			return
		}
		details, refused := request.details()
		if refused != nil {
			require.Equal(t, problem.Invalid, refused.Kind)
			for _, detail := range refused.Details {
				require.NotEmpty(t, detail.Field)
			}
			return
		}
		require.True(t, isTimeZone(details.TimeZone))
		require.Len(t, details.Country, 2)
		for line := range bytes.Lines([]byte(details.Description)) {
			require.True(t, rest.Printable(string(bytes.TrimSuffix(line, []byte("\n")))))
		}
		show, err := Announce("show-1", "owner", details, noon)
		if err != nil {
			return
		}
		stored, err := json.Marshal(show)
		require.NoError(t, err)
		var read Show
		require.NoError(t, json.Unmarshal(stored, &read))
		require.True(t, details.equal(read.Details), "%s", stored)
		require.Equal(t, show.Event(), read.Event())
	})
}
