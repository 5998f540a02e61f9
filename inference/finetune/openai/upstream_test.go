package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const key = "sk-upstream-secret"

// upstream is a server with OpenAI's fine-tuning API over real HTTP. It takes no
// member, parameter or value that OpenAI's own wouldn't, and works on a job a step
// at each look. Times are true, and ids are in no order.
type upstream struct {
	t   testing.TB
	url string

	atWork atomic.Int32 // calls

	mu     sync.Mutex // guards what follows
	files  []*upFile  // oldest first, as all lists here
	jobs   []*upJob
	models []string
	calls  map[string]int // by route
	// before may answer a call itself; route is as in calls.
	before func(route string, w http.ResponseWriter, r *http.Request) (answered bool)
	lose   map[string]int // routes whose next answers are lost once the work is done

	ignoresFilter, refusesFilter, keepsNoMetadata bool
	holds                                         bool // jobs stay at work
	fails                                         bool
	reads, spoils                                 bool  // files take a look until they are read, or can't be
	uploads                                       int64 // bytes
}

type upFile struct {
	ID        string  `json:"id"`
	Object    string  `json:"object"`
	Bytes     int64   `json:"bytes"`
	CreatedAt int64   `json:"created_at"`
	ExpiresAt *int64  `json:"expires_at"`
	Filename  string  `json:"filename"`
	Purpose   string  `json:"purpose"`
	Status    string  `json:"status"`
	Details   *string `json:"status_details"`
	content   []byte
}

type upJob struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	CreatedAt      int64             `json:"created_at"`
	FinishedAt     *int64            `json:"finished_at"`
	Model          string            `json:"model"`
	FineTunedModel *string           `json:"fine_tuned_model"`
	Organization   string            `json:"organization_id"`
	Status         string            `json:"status"`
	Seed           int64             `json:"seed"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile *string           `json:"validation_file"`
	ResultFiles    []string          `json:"result_files"`
	TrainedTokens  *int64            `json:"trained_tokens"`
	Metadata       map[string]string `json:"metadata"`
	Method         json.RawMessage   `json:"method"`
	Hyper          json.RawMessage   `json:"hyperparameters"`
	Error          map[string]any    `json:"error"`
	Integrations   []string          `json:"integrations"`
	suffix, key    string
	looks          int
	events         []map[string]any
	checkpoints    []map[string]any
}

func startUpstream(t testing.TB) *upstream {
	u := &upstream{t: t, calls: map[string]int{}, lose: map[string]int{}}
	mux := http.NewServeMux()
	for route, f := range map[string]func(http.ResponseWriter, *http.Request){
		"POST /v1/files": u.upload, "GET /v1/files": u.listFiles, "GET /v1/files/{id}": u.getFile, "DELETE /v1/files/{id}": u.deleteFile,
		"POST /v1/fine_tuning/jobs": u.create, "GET /v1/fine_tuning/jobs": u.listJobs, "GET /v1/fine_tuning/jobs/{id}": u.getJob,
		"POST /v1/fine_tuning/jobs/{id}/cancel": u.cancel, "GET /v1/fine_tuning/jobs/{id}/events": u.listEvents,
		"GET /v1/fine_tuning/jobs/{id}/checkpoints": u.listCheckpoints, "DELETE /v1/models/{id}": u.deleteModel,
	} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			u.atWork.Add(1)
			defer u.atWork.Add(-1)
			if r.Header.Get("Authorization") != "Bearer "+key {
				refuse(w, 401, "invalid_api_key", "", "Incorrect API key provided: "+r.Header.Get("Authorization"))
				return
			}
			u.mu.Lock()
			u.calls[route]++
			before, lost := u.before, u.lose[route] > 0
			if lost {
				u.lose[route]--
			}
			u.mu.Unlock()
			if before != nil && before(route, w, r) {
				return
			}
			if lost {
				f(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			f(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.t.Errorf("no route %s %s", r.Method, r.URL)
		refuse(w, 404, "unknown_url", "", "Unknown request URL")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	u.url = srv.URL + "/v1"
	return u
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code, param, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"message": message, "type": "invalid_request_error", "param": orNull(param), "code": orNull(code),
	}})
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

var ids = struct {
	sync.Mutex
	n uint32
}{}

// id makes one that no other has, in no order.
func id(prefix string) string {
	ids.Lock()
	defer ids.Unlock()
	ids.n++
	return fmt.Sprintf("%s%08x%08x", prefix, ids.n*2654435761, ids.n)
}

// strange refuses what OpenAI's own would.
func (u *upstream) strange(w http.ResponseWriter, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	u.t.Errorf("the upstream was asked for what it can't: %s", message)
	refuse(w, 400, "unknown_parameter", "", message)
}

func (u *upstream) upload(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength <= 0 {
		u.strange(w, "an upload without length")
		return
	}
	form, err := r.MultipartReader()
	if err != nil {
		u.strange(w, "an upload that isn't multipart: %v", err)
		return
	}
	f := &upFile{ID: id("file-"), Object: "file", CreatedAt: time.Now().Unix(), Status: "processed"}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		var b []byte
		if err == nil {
			b, err = io.ReadAll(part)
		}
		if err != nil {
			refuse(w, 400, "", "", "the upload broke off") // its client has gone
			return
		}
		switch {
		case part.FormName() == "purpose" && f.Purpose == "":
			f.Purpose = string(b)
		case part.FormName() == "file" && f.Filename == "":
			f.content, f.Filename, f.Bytes = b, (*multipart.Part).FileName(part), int64(len(b))
		default:
			u.strange(w, "an upload's part %q", part.FormName())
			return
		}
	}
	if f.Purpose != "fine-tune" || f.Filename == "" || len(f.Filename) > 255 {
		u.strange(w, "a file %q for %q", f.Filename, f.Purpose)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reads || u.spoils {
		f.Status = "uploaded"
	}
	u.files, u.uploads = append(u.files, f), u.uploads+f.Bytes
	answer(w, f)
}

func (u *upstream) listFiles(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := r.URL.Query()
	all := slices.Clone(u.files)
	if p := q.Get("purpose"); p != "" {
		all = slices.DeleteFunc(all, func(f *upFile) bool { return f.Purpose != p })
	}
	list(u, w, q, []string{"purpose", "order"}, all, func(f *upFile) string { return f.ID })
}

func (u *upstream) getFile(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, f := range u.files {
		if f.ID == r.PathValue("id") {
			if f.Status == "uploaded" {
				f.Status = map[bool]string{false: "processed", true: "error"}[u.spoils]
			}
			answer(w, f)
			return
		}
	}
	refuse(w, 404, "", "id", "No such File object: "+r.PathValue("id"))
}

func (u *upstream) deleteFile(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.files)
	u.files = slices.DeleteFunc(u.files, func(f *upFile) bool { return f.ID == r.PathValue("id") })
	if len(u.files) == n {
		refuse(w, 404, "", "id", "No such File object: "+r.PathValue("id"))
		return
	}
	answer(w, map[string]any{"id": r.PathValue("id"), "object": "file", "deleted": true})
}

func (u *upstream) deleteModel(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.Index(u.models, r.PathValue("id"))
	if i < 0 {
		refuse(w, 404, "model_not_found", "model", "no model")
		return
	}
	u.models = slices.Delete(u.models, i, i+1)
	answer(w, map[string]any{"id": r.PathValue("id"), "object": "model", "deleted": true})
}

// list answers with a page, newest first.
func list[T any](u *upstream, w http.ResponseWriter, q url.Values, known []string, all []T, idOf func(T) string) {
	limit, err := 20, error(nil)
	for name, v := range q {
		switch {
		case name == "limit":
			if limit, err = strconv.Atoi(v[0]); err != nil || limit < 1 || limit > 100 {
				u.strange(w, "limit %q", v)
				return
			}
		case name == "after" || slices.Contains(known, name) || strings.HasPrefix(name, "metadata[") && slices.Contains(known, "metadata"):
		default:
			u.strange(w, "parameter %q", name)
			return
		}
	}
	all = slices.Clone(all)
	if q.Get("order") != "asc" {
		slices.Reverse(all)
	}
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(v T) bool { return idOf(v) == after })
		if i < 0 {
			refuse(w, 400, "", "after", "no such item")
			return
		}
		all = all[i+1:]
	}
	n := min(limit, len(all))
	answer(w, map[string]any{"object": "list", "data": append([]T{}, all[:n]...), "has_more": n < len(all)})
}
