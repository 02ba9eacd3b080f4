--- Insert mode keys in served buffers. A key that has nothing to do does what it did before.
local config = require('lacuna.config')

local M = {}

---@type table<integer, table<string, table|false>> buffer-local mappings found when the buffer was attached
local earlier = {}

local ACTIONS = { 'accept', 'accept_word', 'accept_line', 'next', 'previous', 'dismiss' }
local MARK = 'Lacuna: '

--- The global mapping of a key, as it is now: others may have been made since.
---@param key string
---@return table?
local function global_mapping(key)
  local wanted = vim.keycode(key)
  for _, mapping in ipairs(vim.api.nvim_get_keymap('i')) do
    if vim.keycode(mapping.lhs) == wanted then
      return mapping
    end
  end
  return nil
end

--- Does what a mapping does. Keys go to the front of what is waiting, so that nothing overtakes anything.
---@param mapping? table of maparg()
---@param key string
local function run(mapping, key)
  if not mapping or (mapping.rhs == nil and mapping.callback == nil) then
    vim.api.nvim_feedkeys(vim.keycode(key), 'in', false)
    return
  end
  local keys = mapping.rhs
  if mapping.callback then
    keys = mapping.callback()
    if mapping.expr ~= 1 then
      return
    end
    keys = keys and mapping.replace_keycodes == 1 and vim.keycode(keys) or keys
  elseif mapping.expr == 1 then
    keys = vim.api.nvim_eval(mapping.rhs)
    keys = mapping.replace_keycodes == 1 and vim.keycode(keys) or keys
  else
    keys = vim.keycode(mapping.rhs:gsub('<[sS][iI][dD]>', ('<SNR>%d_'):format(mapping.sid or 0)))
  end
  if type(keys) == 'string' and keys ~= '' then
    -- A mapping that begins with its own key is not applied to it again, as with Neovim's own.
    local remap = mapping.noremap ~= 1 and not vim.startswith(keys, vim.keycode(key))
    vim.api.nvim_feedkeys(keys, remap and 'im' or 'in', false)
  end
end

---@param bufnr integer
---@param key string
---@return table? mapping
local function buffer_mapping(bufnr, key)
  local wanted = vim.keycode(key)
  for _, mapping in ipairs(vim.api.nvim_buf_get_keymap(bufnr, 'i')) do
    if vim.keycode(mapping.lhs) == wanted then
      return mapping
    end
  end
  return nil
end

---@param mapping table?
---@return boolean
local function is_ours(mapping)
  return mapping ~= nil and vim.startswith(mapping.desc or '', MARK)
end

---@param bufnr integer
function M.attach(bufnr)
  if earlier[bufnr] then
    return
  end
  earlier[bufnr] = {}
  for _, action in ipairs(ACTIONS) do
    local key = config.current.keymap[action]
    if type(key) == 'string' and key ~= '' then
      local before = buffer_mapping(bufnr, key)
      earlier[bufnr][key] = before or false
      vim.keymap.set('i', key, function()
        if not require('lacuna')[action]() then
          run(before or global_mapping(key), key)
        end
      end, { buffer = bufnr, desc = MARK .. action:gsub('_', ' ') })
    end
  end
end

--- Puts back the mappings that were there before, unless someone has mapped the key anew.
---@param bufnr integer
function M.detach(bufnr)
  local mappings = earlier[bufnr]
  earlier[bufnr] = nil
  if not mappings or not vim.api.nvim_buf_is_valid(bufnr) then
    return
  end
  for key, before in pairs(mappings) do
    if is_ours(buffer_mapping(bufnr, key)) then
      vim.keymap.del('i', key, { buffer = bufnr })
      if before then
        vim.api.nvim_buf_call(bufnr, function()
          vim.fn.mapset('i', false, before)
        end)
      end
    end
  end
end

return M
