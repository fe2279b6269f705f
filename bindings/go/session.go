package mlxrt

// #include <mlxrt.h>
import "C"

// Session is a conversation with a model. It remembers its tokens and what was computed of them, so an
// operation [WithSession] only computes what is new. Any goroutine may use it, one at a time: an operation
// on a session that is in use ends with ErrBusy. Close it after use.
type Session struct {
	owned[*C.mlxrt_session]
	model *Model // kept open as long as the session may need it
}

// NewSession begins a conversation.
func (m *Model) NewSession() (*Session, error) {
	var handle *C.mlxrt_session
	err := m.use(func(h *C.mlxrt_model) C.mlxrt_status { return C.mlxrt_session_new(h, &handle) })
	return newSession(m, handle, err)
}

// ImportSession begins with what Export wrote to a file, with the same model, weights and type included,
// and the same KVBits and KeepTokens.
func (m *Model) ImportSession(path string) (*Session, error) {
	var handle *C.mlxrt_session
	err := m.use(func(h *C.mlxrt_model) C.mlxrt_status {
		return C.mlxrt_session_import(h, stringData(path), C.size_t(len(path)), &handle)
	})
	return newSession(m, handle, err)
}

func newSession(m *Model, handle *C.mlxrt_session, err error) (*Session, error) {
	if err != nil {
		return nil, err
	}
	s := &Session{model: m}
	own(s, &s.owned, "session", handle, func(handle *C.mlxrt_session) { C.mlxrt_session_free(handle) })
	return s, nil
}

// Tokens returns the ids of the whole conversation: prompts and answers, as far as their loops went.
func (s *Session) Tokens() ([]int32, error) {
	return fill(&s.owned, 1024, func(h *C.mlxrt_session, ids []int32, count *C.size_t) C.mlxrt_status {
		return C.mlxrt_session_tokens(h, sliceData[C.int32_t](ids), C.size_t(len(ids)), count)
	})
}

// Rewind forgets all tokens behind the first n. Where the model can't go back so far (recurrent layers,
// sliding windows, a context that rotated) the next operation computes some of the first ones again.
func (s *Session) Rewind(n int) error {
	if n < 0 {
		return badArgument("Rewind to %d tokens", n)
	}
	return s.use(func(h *C.mlxrt_session) C.mlxrt_status { return C.mlxrt_session_rewind(h, C.size_t(n)) })
}

// Fork makes a second session that begins with the same tokens; both go on independently. The memory of
// what they have in common is shared.
func (s *Session) Fork() (*Session, error) {
	var handle *C.mlxrt_session
	err := s.use(func(h *C.mlxrt_session) C.mlxrt_status { return C.mlxrt_session_fork(h, &handle) })
	return newSession(s.model, handle, err)
}

// Export writes the conversation to a file, tokens and what was computed of them. The file appears when it
// is complete.
func (s *Session) Export(path string) error {
	return s.use(func(h *C.mlxrt_session) C.mlxrt_status {
		return C.mlxrt_session_export(h, stringData(path), C.size_t(len(path)))
	})
}

// Close frees the session's memory. An answer under way with it goes on to its end; other operations end
// with ErrClosed. It may be called more than once and always returns nil.
func (s *Session) Close() error {
	s.close()
	return nil
}
