--- A Neovim under remote control: keys go in as a user's would, so insert mode is insert mode; what is on the screen
--- is read from the extmarks.
local Editor = {}
Editor.__index = Editor

-- Long, because a loaded machine is slow and a wait that is met ends at once.
local WAIT_MS = 30000
local POLL_MS = 10

--- Waits until a condition is met, and says whether it was. Not `vim.wait` with the condition: a request to the editor within
--- it is an event that it looks again after, and before 0.12 it does not count the time of rounds that take less than a
--- millisecond, so that on a fast machine it waits for minutes.
local function wait_for(limit_ms, condition)
  local deadline = vim.uv.hrtime() + limit_ms * 1e6
  repeat
    if condition() then
      return true
    end
    vim.wait(POLL_MS)
  until vim.uv.hrtime() >= deadline
  return condition()
end

local here = vim.env.LACUNA_TESTS
-- Isolated and without site packages: the server is started hundreds of times.
local MOCK_SERVER = { vim.env.LACUNA_TEST_PYTHON or 'python3', '-I', '-S', here .. '/mock_server.py' }

local function merge(...)
  return vim.tbl_deep_extend('force', ...)
end

--- Starts an editor in a directory of its own.
---@param spec { files?: table<string, string>, open?: string, options?: table, env?: table<string, string>, arguments?: string[], setup?: string, server?: string[] }
function Editor.start(spec)
  local self = setmetatable({}, Editor)
  self.directory = vim.fn.tempname()
  vim.fn.mkdir(self.directory, 'p')
  self.directory = vim.uv.fs_realpath(self.directory)
  for name, text in pairs(spec.files or {}) do
    local path = self.directory .. '/' .. name
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    local file = assert(io.open(path, 'wb'))
    file:write(text)
    file:close()
  end
  self.mock_log = self.directory .. '/mock.log'
  local options = merge({ cmd = spec.server or MOCK_SERVER }, spec.options or {})
  local command = {
    vim.v.progpath,
    '--clean',
    '--embed',
    '--headless',
    '-u',
    here .. '/init.lua',
  }
  vim.list_extend(command, spec.arguments or {})
  if spec.open and spec.open ~= '' then
    table.insert(command, spec.open)
  end
  self.channel = vim.fn.jobstart(command, {
    rpc = true,
    cwd = self.directory,
    env = merge({
      LACUNA_TEST_OPTIONS = vim.json.encode(options),
      LACUNA_TEST_SETUP = spec.setup or 'call',
      MOCK_LOG = self.mock_log,
      XDG_STATE_HOME = self.directory .. '/state',
      XDG_CONFIG_HOME = self.directory .. '/config',
      XDG_DATA_HOME = self.directory .. '/data',
      XDG_CACHE_HOME = self.directory .. '/cache',
    }, spec.env or {}),
  })
  assert(self.channel > 0, 'the editor under test did not start')
  return self
end

function Editor:stop()
  pcall(vim.rpcnotify, self.channel, 'nvim_command', 'qa!')
  if vim.fn.jobwait({ self.channel }, 3000)[1] == -1 then
    vim.fn.jobstop(self.channel)
  end
  vim.fn.delete(self.directory, 'rf')
end

--- What to read when a case has failed.
function Editor:diagnosis()
  local read, state = pcall(function()
    return self:lua([[
      local clients = {}
      for _, client in ipairs(vim.lsp.get_clients()) do
        clients[#clients + 1] = { client.id, client.name, client.initialized or false, client.attached_buffers }
      end
      return vim.inspect({
        mode = vim.api.nvim_get_mode(),
        buffer = vim.api.nvim_buf_get_name(0),
        refusal = require('lacuna.buffer').refusal(0) or 'none',
        clients = clients,
        notified = notified,
        messages = vim.api.nvim_exec2('messages', { output = true }).output,
        log = require('lacuna.log').lines(require('lacuna.config').command()[1]),
      })
    ]])
  end)
  local methods = {}
  if vim.uv.fs_stat(self.mock_log) then
    for _, message in ipairs(self:received()) do
      methods[#methods + 1] = message.method
    end
  end
  return (read and state or ('the editor does not answer: ' .. tostring(state)))
    .. '\nreceived by the server: '
    .. table.concat(methods, ' ')
end

--- Calls the API of the editor. nvim_input and nvim_get_mode are answered even while the editor waits for a key; for
--- the others that would be a deadlock, so it is looked for first.
function Editor:api(name, ...)
  if name ~= 'nvim_input' and name ~= 'nvim_get_mode' then
    local mode
    local free = wait_for(WAIT_MS, function()
      mode = vim.rpcrequest(self.channel, 'nvim_get_mode')
      return not mode.blocking
    end)
    if not free then
      error('the editor waits for a key in mode ' .. mode.mode, 2)
    end
  end
  return vim.rpcrequest(self.channel, name, ...)
end

--- Runs Lua in the editor; `...` are its arguments.
function Editor:lua(code, ...)
  return self:api('nvim_exec_lua', code, { ... })
end

function Editor:command(command)
  return self:api('nvim_command', command)
end

--- Types keys, written as in a mapping.
function Editor:type(keys)
  self:api('nvim_input', keys)
  return self
end

--- Waits until a function answers something true; fails naming what was waited for.
function Editor:wait(what, condition, limit_ms)
  local last
  local met = wait_for(limit_ms or WAIT_MS, function()
    last = condition()
    return last and true or false
  end)
  if not met then
    error(('waited %d ms for %s'):format(limit_ms or WAIT_MS, what), 2)
  end
  return last
end

--- Waits until the server is ready and the buffer is served.
function Editor:ready()
  self:wait('the server to be ready', function()
    return self:lua([[
      local client = require('lacuna.client').ready()
      return client ~= nil and client.attached_buffers[vim.api.nvim_get_current_buf()] ~= nil
    ]])
  end)
  return self
end

---@return { first: string, below: string[], position: string, row: integer, column: integer, count: integer }?
function Editor:ghost()
  return self:lua([[
    local found, count = nil, 0
    for _, name in ipairs({ 'lacuna.ghost_text', 'nvim.lsp.inline_completion' }) do
      local namespace = vim.api.nvim_get_namespaces()[name]
      for _, mark in ipairs(namespace and vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true }) or {}) do
        local function text(chunks)
          return table.concat(vim.tbl_map(function(chunk) return chunk[1] end, chunks))
        end
        count = count + 1
        found = {
          first = text(mark[4].virt_text or {}),
          below = vim.tbl_map(text, mark[4].virt_lines or {}),
          position = mark[4].virt_text_pos,
          row = mark[2],
          column = mark[3],
        }
      end
    end
    if found then
      found.count = count
    end
    return found
  ]]) or nil
end

--- Waits for ghost text: its first line as shown, and the lines below.
function Editor:expect_ghost(first, below)
  local last
  local met = wait_for(WAIT_MS, function()
    last = self:ghost()
    if last == vim.NIL then
      last = nil
    end
    return last ~= nil and last.first == first and vim.deep_equal(last.below, below or {})
  end)
  if not met then
    error(('expected ghost text %s, found %s'):format(vim.inspect({ first, below or {} }), vim.inspect(last)), 2)
  end
  if last.count ~= 1 then
    error(('%d ghost texts at once'):format(last.count), 2)
  end
  return last
end

function Editor:shown()
  local ghost = self:ghost()
  return ghost ~= nil and ghost ~= vim.NIL
end

--- Fails unless there is no ghost text, now and for a while.
function Editor:expect_no_ghost(for_ms)
  self:wait('the ghost text to go', function()
    return not self:shown()
  end)
  if wait_for(for_ms or 450, function()
    return self:shown()
  end) then
    error('ghost text came back: ' .. vim.inspect(self:ghost()), 2)
  end
end

function Editor:lines()
  return self:api('nvim_buf_get_lines', 0, 0, -1, false)
end

--- Waits for the text of the buffer.
function Editor:expect_lines(expected)
  local last
  if not wait_for(WAIT_MS, function()
    last = self:lines()
    return vim.deep_equal(last, expected)
  end) then
    error(('expected lines %s, found %s'):format(vim.inspect(expected), vim.inspect(last)), 2)
  end
end

function Editor:expect_cursor(row, column)
  local cursor = self:api('nvim_win_get_cursor', 0)
  if cursor[1] ~= row or cursor[2] ~= column then
    error(('expected the cursor at %d:%d, found %d:%d'):format(row, column, cursor[1], cursor[2]), 2)
  end
end

--- What the mock server has received, optionally one method only.
function Editor:received(method)
  local messages = {}
  for line in io.lines(self.mock_log) do
    local decoded, message = pcall(vim.json.decode, line)
    if decoded and (method == nil or message.method == method) then
      messages[#messages + 1] = message
    end
  end
  return messages
end

function Editor:expect_received(method, condition)
  return self:wait('the server to receive ' .. method, function()
    for _, message in ipairs(self:received(method)) do
      if condition == nil or condition(message) then
        return message
      end
    end
  end)
end

--- Waits for a message to the user that contains a text.
function Editor:expect_notified(text)
  self:wait(('a message with %q, got %s'):format(text, vim.inspect(self:lua('return notified'))), function()
    for _, message in ipairs(self:lua('return notified')) do
      if message:find(text, 1, true) then
        return message
      end
    end
  end)
end

--- The server's text of the open document must be the editor's.
function Editor:expect_documents_agree()
  local agree = self:wait('the document in the server to equal the buffer', function()
    return self:lua([[
      local answer
      require('lacuna.client').execute('mock.documents', {}, function(_, result) answer = result end)
      vim.wait(2000, function() return answer ~= nil end, 5)
      local text = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), '\n') .. '\n'
      return answer ~= nil and answer[vim.uri_from_bufnr(0)] == text
    ]])
  end)
  assert(agree)
end

return Editor
