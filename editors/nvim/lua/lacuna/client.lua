--- The one server of this editor: started for the first buffer, shared by all, restarted when it ends by itself.
local buffer = require('lacuna.buffer')
local config = require('lacuna.config')
local log = require('lacuna.log')
local status = require('lacuna.status')

local M = {}

local NAME = 'lacuna'
local METHOD = 'textDocument/inlineCompletion'
local RESTART_WINDOW_MS = 5 * 60 * 1000
local EXIT_TIMEOUT_MS = 500

---@type integer?
local client_id
---@type table<string, true> workspace folders to be told to the server once it is initialized
local waiting_folders = {}
---@type integer[] when the server ended by itself
local unexpected_ends = {}
---@type integer? the client that is being stopped on purpose
local stopping

-- Neovim 0.10 calls client functions with a dot, later ones with a colon.
local colon = vim.fn.has('nvim-0.11') == 1

---@param client vim.lsp.Client
---@param name 'request'|'notify'|'cancel_request'|'stop'|'is_stopped'
local function call(client, name, ...)
  if colon then
    return client[name](client, ...)
  end
  return client[name](...)
end

--- The running client, initialized or not.
---@return vim.lsp.Client?
function M.get()
  local client = client_id and vim.lsp.get_client_by_id(client_id)
  if client and not call(client, 'is_stopped') then
    return client
  end
  return nil
end

--- The client, once it has answered `initialize`.
---@return vim.lsp.Client?
function M.ready()
  local client = M.get()
  return client and client.initialized and client or nil
end

--- Whether the server offers inline completion for a buffer, from the start or registered later.
---@param client vim.lsp.Client
---@param bufnr integer
---@return boolean
function M.offers_inline_completion(client, bufnr)
  if client.server_capabilities.inlineCompletionProvider then
    return true
  end
  if vim.fn.has('nvim-0.12') == 1 then
    return client:supports_method(METHOD, bufnr)
  end
  -- Before 0.12 supports_method() answers true for every method it does not know, and this is one.
  return client.dynamic_capabilities:get(METHOD, { bufnr = bufnr }) ~= nil
end

---@param method string
---@param params table
---@param handler fun(err: table?, result: any)
---@param bufnr? integer
---@return integer? request_id nil when there is no server to ask
function M.request(method, params, handler, bufnr)
  local client = M.ready()
  if not client then
    return nil
  end
  local sent, request_id = call(client, 'request', method, params, handler, bufnr)
  return sent and request_id or nil
end

--- Tells the server something, if there is one.
---@param method string
---@param params table
function M.notify(method, params)
  local client = M.ready()
  if client then
    call(client, 'notify', method, params)
  end
end

--- Asks for inline completion at a place; `handler` gets the items.
---@param params table
---@param handler fun(err: table?, items: table[])
---@param bufnr integer
---@return integer? request_id
function M.inline_completion(params, handler, bufnr)
  return M.request(METHOD, params, function(err, result)
    handler(err, type(result) == 'table' and (result.items or result) or {})
  end, bufnr)
end

---@param request_id integer
function M.cancel(request_id)
  local client = M.ready()
  if client and client.requests[request_id] then
    call(client, 'cancel_request', request_id)
  end
end

--- Runs a server command, for example `lacuna.status`.
---@param command string
---@param arguments any[]
---@param handler fun(err: table?, result: any)
---@return boolean sent
function M.execute(command, arguments, handler)
  return M.request('workspace/executeCommand', { command = command, arguments = arguments }, handler, 0) ~= nil
end

---@param client vim.lsp.Client
---@param root string
local function add_folder(client, root)
  if not client.initialized then
    waiting_folders[root] = true
    return
  end
  local folder = { uri = vim.uri_from_fname(root), name = root }
  for _, known in ipairs(client.workspace_folders or {}) do
    if known.uri == folder.uri then
      return
    end
  end
  client.workspace_folders = client.workspace_folders or {}
  table.insert(client.workspace_folders, folder)
  call(client, 'notify', 'workspace/didChangeWorkspaceFolders', { event = { added = { folder }, removed = {} } })
end

---@return table
local function capabilities()
  local made = vim.lsp.protocol.make_client_capabilities()
  -- Neovim before 0.12 does not name it, and 0.12 says no to registering it later though it can.
  made.textDocument.inlineCompletion = { dynamicRegistration = true }
  made.workspace.workspaceFolders = true
  return made
end

---@return table
local function init_options()
  local options = vim.deepcopy(config.current.server)
  if options.statusNotifications == nil then
    options.statusNotifications = true
  end
  return options
end

---@param code integer
---@param signal integer
---@param ended_id integer
local function on_exit(code, signal, ended_id)
  if ended_id ~= client_id then
    return
  end
  client_id = nil
  status.reset()
  if stopping == ended_id or vim.v.exiting ~= vim.NIL then
    stopping = nil
    return
  end
  local reason = ('the server ended by itself (exit code %d, signal %d)'):format(code, signal)
  log.add('error', reason)
  local now = vim.uv.now()
  unexpected_ends = vim.tbl_filter(function(at)
    return now - at < RESTART_WINDOW_MS
  end, unexpected_ends)
  unexpected_ends[#unexpected_ends + 1] = now
  if #unexpected_ends > config.current.max_restarts then
    status.fail(reason)
    vim.notify(('lacuna: %s too often; see :Lacuna log, then :Lacuna! restart'):format(reason), vim.log.levels.ERROR)
    return
  end
  vim.notify(('lacuna: %s; starting it again'):format(reason), vim.log.levels.WARN)
  require('lacuna').attach_all()
end

---@return table handlers of what only this server sends
local function handlers()
  return {
    ['lacuna/status'] = function(_, result)
      if status.update(result) then
        require('lacuna').ask_again()
      end
    end,
    ['window/logMessage'] = function(err, result, context, more)
      log.message(result)
      return vim.lsp.handlers['window/logMessage'](err, result, context, more)
    end,
  }
end

--- Starts the server if need be and gives it the buffer.
---@param bufnr integer
function M.attach(bufnr)
  local command = config.command()
  local running = M.get()
  if running and running.attached_buffers[bufnr] then
    return
  end
  if not running and vim.fn.executable(command[1]) == 0 then
    if status.missing ~= command[1] then
      status.missing = command[1]
      vim.notify(
        ("lacuna: '%s' was not found; install the server or set the option `cmd`; see :checkhealth lacuna"):format(
          command[1]
        ),
        vim.log.levels.WARN
      )
    end
    return
  end
  status.missing = nil
  local root = buffer.root(bufnr)
  if running and root then
    add_folder(running, root)
  end
  client_id = vim.lsp.start({
    name = NAME,
    cmd = command,
    cmd_env = config.current.cmd_env,
    root_dir = root,
    init_options = init_options(),
    capabilities = capabilities(),
    handlers = handlers(),
    -- Milliseconds to wait for the server when Neovim exits; 0.10 reads it from the flags.
    exit_timeout = EXIT_TIMEOUT_MS,
    flags = { exit_timeout = EXIT_TIMEOUT_MS },
    on_init = function(client)
      for folder in pairs(waiting_folders) do
        add_folder(client, folder)
      end
      waiting_folders = {}
    end,
    on_attach = function(_, attached)
      require('lacuna').on_attach(attached)
    end,
    on_exit = vim.schedule_wrap(on_exit),
  }, {
    bufnr = bufnr,
    reuse_client = function(client)
      return running ~= nil and client.id == running.id
    end,
  }) or client_id
end

---@param bufnr integer
function M.detach(bufnr)
  local client = M.get()
  if client and client.attached_buffers[bufnr] then
    vim.lsp.buf_detach_client(bufnr, client.id)
  end
end

--- Ends the server; `ended` runs when it is gone.
---@param ended? fun()
function M.stop(ended)
  local client = M.get()
  if not client then
    if ended then
      ended()
    end
    return
  end
  stopping = client.id
  call(client, 'stop')
  local waited_ms = 0
  local function poll()
    if not vim.lsp.get_client_by_id(client.id) then
      if ended then
        ended()
      end
    elseif waited_ms >= 3000 then
      call(client, 'stop', true)
      waited_ms = 0
      vim.defer_fn(poll, 20)
    else
      waited_ms = waited_ms + 20
      vim.defer_fn(poll, 20)
    end
  end
  vim.defer_fn(poll, 20)
end

--- Forgets earlier failures and tells the running server about changed options.
function M.reconfigure()
  unexpected_ends = {}
  status.missing = nil
  local client = M.ready()
  if client then
    client.settings = { lacuna = init_options() }
    call(client, 'notify', 'workspace/didChangeConfiguration', { settings = client.settings })
  end
end

return M
